"""Knowledge distillation on softened logits (Hinton et al. 2015, arXiv 1503.02531)."""

from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput, divergence, temperature_of
from mm_ray.models.layers import Output

USES = ("temperature",)
ROWWISE = True


def loss(student: Output, target: TeacherOutput, labels_B: Tensor, settings: Phase2Config) -> Tensor:
    """T^2 * KL(softmax(teacher/T) || softmax(student/T)), the mean over the batch (scalar, nats)."""
    temperature = temperature_of(target, settings)
    student_BC = functional.log_softmax(student.logits_BC / temperature, dim=1)
    teacher_BC = functional.log_softmax(target.logits_BC / temperature, dim=1)
    return divergence(student_BC, teacher_BC, temperature)
