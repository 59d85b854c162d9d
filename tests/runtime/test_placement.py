"""How many client actors fit, and what a person is told when they do not."""

import re

import pytest

from mm_ray.config import ClientsConfig
from mm_ray.errors import UserError
from mm_ray.runtime.cluster import Cluster, Node
from mm_ray.runtime.placement import DRIVER_CPUS, Placement, most_trials, place_run, place_trial


def cluster(cpus=8.0, *gpus_per_node):
    """Nodes that share the CPUs evenly, one for each number of GPUs."""
    gpus = gpus_per_node or (0,)
    return Cluster("test", tuple(Node(cpus / len(gpus), float(count)) for count in gpus))


def nodes(*cpus):
    return Cluster("test", tuple(Node(float(count)) for count in cpus))


def clients(actors=0, cpus=1.0, gpus=0.0):
    return ClientsConfig(num_actors=actors, num_cpus=cpus, num_gpus=gpus)


@pytest.mark.parametrize(
    ("wanted", "has", "message"),
    [
        (
            clients(4, gpus=0.3),
            cluster(8, 1),
            "--clients.num_gpus 0.3: 4 client actors need 1.2 GPUs, the cluster has 1; use 0.25, or fewer --clients.num_actors",
        ),
        (
            clients(5, cpus=0.25, gpus=0.5),
            cluster(2, 2),
            "--clients.num_gpus 0.5: 5 client actors need 2.5 GPUs, the cluster has 2; use 0.33, or fewer --clients.num_actors",
        ),
        (
            clients(1, gpus=1.0),
            cluster(8),
            "--clients.num_gpus 1.0: a client actor needs 1 GPUs, the cluster has 0; use 0 to train on the CPU",
        ),
        (
            clients(4, cpus=1.0),
            cluster(2),
            "--clients.num_cpus 1.0: 4 client actors need 4 CPUs, the cluster has 2; use 0.5, or fewer --clients.num_actors",
        ),
        (
            clients(6, cpus=3.0),
            nodes(4, 4, 4, 4, 4),
            "--clients.num_cpus 3.0: 6 client actors need 18 CPUs, the cluster has 20; on its 5 nodes 5 fit; "
            "use 2, or fewer --clients.num_actors",
        ),
        (
            clients(1, cpus=3.0),
            nodes(2, 2),
            "--clients.num_cpus 3.0: a client actor needs 3 CPUs, the cluster has 4; on its 2 nodes 0 fit; use 2",
        ),
        (
            clients(2, gpus=0.5),
            Cluster("test", (Node(4.0), Node(1.0, 1.0))),  # the GPU's node has one CPU only
            "--clients.num_cpus 1.0: 2 client actors need 2 CPUs, the cluster has 5; on its 2 nodes 1 fit; "
            "use 0.5, or fewer --clients.num_actors",
        ),
    ],
)
@pytest.mark.parametrize("place", [place_run, lambda wanted, has: place_trial(wanted, has, "actor")], ids=["run", "trial"])
def test_what_does_not_fit_is_told_with_a_remedy(wanted, has, message, place):
    with pytest.raises(UserError) as caught:
        place(wanted, has)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("wanted", "has"),
    [
        (clients(4, gpus=0.3), cluster(8, 1)),
        (clients(5, cpus=0.25, gpus=0.5), cluster(2, 2)),
        (clients(7), cluster(2)),
        (clients(7, cpus=2.0), nodes(4, 3, 0.5)),
        (clients(3, gpus=2.0), cluster(8, 1, 3)),
        (clients(4, gpus=3.0), cluster(8, 4, 4)),
    ],
)
def test_the_remedy_fits(wanted, has):
    with pytest.raises(UserError) as caught:
        place_run(wanted, has)
    field, remedy = re.match(r"--clients\.(\w+) .*use ([0-9.]+), or fewer", str(caught.value)).groups()
    place_run(ClientsConfig(**{**vars(wanted), field: float(remedy)}), has)


@pytest.mark.parametrize(
    ("wanted", "has", "actors"),
    [
        (clients(), cluster(8), 8),
        (clients(cpus=0.25), cluster(2), 8),
        (clients(cpus=3.0), cluster(8), 2),
        (clients(gpus=0.5), cluster(8, 1), 2),
        (clients(gpus=0.3), cluster(8, 1, 1), 6),  # three on each card, and not six and a half on two
        (clients(gpus=0.1), cluster(8, 4), 8),
        (clients(gpus=2.0), cluster(8, 1, 3), 1),  # an actor's cards lie on one node
        (clients(3), cluster(8), 3),
        (clients(cpus=3.0), nodes(4, 4, 4, 4, 4), 5),  # and not the six of 20 CPUs
        (clients(cpus=0.8), nodes(2, 2), 4),
        (clients(cpus=0.1), nodes(0, 1, 0.3), 13),
        (clients(gpus=0.5), Cluster("test", (Node(1.0, 1.0), Node(4.0))), 1),
    ],
)
def test_no_number_of_actors_takes_as_many_as_fit(wanted, has, actors):
    assert place_run(wanted, has).num_actors == actors


def test_the_actors_of_a_train_job_leave_its_driver_a_sliver_of_cpu():
    placement = place_trial(clients(2), cluster(2), "train")
    assert placement == Placement(2, 1 - DRIVER_CPUS, 0.0)
    assert placement.num_actors * placement.num_cpus + DRIVER_CPUS <= 2
    assert place_run(clients(2), cluster(2)) == Placement(2, 1.0, 0.0)
    assert place_trial(clients(), cluster(2), "actor") == Placement(1, 1.0, 0.0)


def test_bundles_are_one_for_each_actor():
    assert Placement(2, 0.5, 0.25).bundles() == [{"CPU": 0.5, "GPU": 0.25}] * 2
    assert Placement(1, 1.0, 0.0).bundles() == [{"CPU": 1.0}]


@pytest.mark.parametrize(
    ("wanted", "has", "trials"),
    [(clients(2), cluster(8), 4), (clients(3), cluster(8), 2), (clients(2, gpus=0.5), cluster(8, 1), 1)],
)
def test_trials_that_fit_at_once(wanted, has, trials):
    assert most_trials(place_trial(wanted, has, "actor"), wanted, has) == trials


@pytest.mark.parametrize(
    ("field", "bad", "good"),
    [("num_gpus", (-1, 1.5, 0.001, -0.5), (0, 0.01, 0.3333333, 1, 2.0)), ("num_cpus", (0, 0.001), (0.01, 1.5))],
)
def test_sizes_that_ray_does_not_know_are_refused_before_anything_starts(field, bad, good):
    for value in bad:
        with pytest.raises(UserError, match=rf"^--{field} {value}: must be "):
            ClientsConfig(**{field: value})
    for value in good:
        ClientsConfig(**{field: value})
