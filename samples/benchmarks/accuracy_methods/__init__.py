"""The methods that the accuracy of crespr is held against, each a small class.

All start from the same trained model, which is the teacher as well, and train with the library's
own loop and objective; only what differs between them differs.
"""

from collections.abc import Mapping

from accuracy_methods.channels import LrpUnits, UniformL1
from accuracy_methods.crespr import Crespr, OneShotNoRefit
from accuracy_methods.in_clusters import UnstructuredInClusters
from accuracy_methods.magnitude import OneShotMagnitude, Unstructured
from accuracy_methods.random_clusters import RandomClusters
from accuracy_methods.task import Method

METHODS: Mapping[str, Method] = {
    "crespr": Crespr(),
    "unstructured": Unstructured(),
    "unstructured_in_clusters": UnstructuredInClusters(),
    "random_clusters": RandomClusters(),
    "uniform_l1": UniformL1(),
    "lrp_units": LrpUnits(),
    "one_shot": Crespr(trains=False),
    "one_shot_no_refit": OneShotNoRefit(),
    "one_shot_magnitude": OneShotMagnitude(),
}
