"""Knowledge distillation on softened logits (Hinton et al. 2015, arXiv 1503.02531)."""

from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.target import Target
from mm_ray.models.layers import Output

USES = ("temperature",)


def loss(student: Output, target: Target, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """T^2 * KL(softmax(teacher/T) || softmax(student/T)), the mean over the batch (scalar, nats).

    The factor T^2 keeps the gradient's size independent of T. It stands here and nowhere else, so that the temperature and
    the weight of the objective do not confound.
    """
    temperature = settings.temperature
    student_BC = functional.log_softmax(student.logits_BC / temperature, dim=1)
    teacher_BC = functional.log_softmax(target.logits_BC / temperature, dim=1)
    divergence = functional.kl_div(student_BC, teacher_BC, log_target=True, reduction="batchmean")
    return temperature**2 * divergence
