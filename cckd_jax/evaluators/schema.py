"""What `results.json` holds. A number that was not measured is null.

For several teachers every entry of `teacher` is a list with one item for each teacher, and the accuracies of their
ensemble stand beside them.
"""

from typing import Any, NotRequired, TypedDict

Shares = list[float] | None


class Teacher(TypedDict):
    """The teacher, or all of them as lists."""

    model: str | list[str]
    parameters: int | list[int | None] | None
    epochs: int | list[int | None] | None
    method: str | list[str | None] | None
    epsilon: float | list[float | None] | None
    label_noise: float | list[float | None] | None
    test_accuracy: float | list[float | None] | None
    train_accuracy: float | list[float]
    seconds: float | list[float]
    ensemble_test_accuracy: NotRequired[float | None]
    ensemble_train_accuracy: NotRequired[float]


class TeacherWeights(TypedDict):
    """Weights of the teachers on one term of the loss: shares that sum to 1."""

    overall: Shares
    by_class: list[Shares]


class Student(TypedDict):
    """The distilled student; for several students every entry is a list with one item for each.

    `samples_in_all` is epochs times training examples, and `samples_presented` leaves out those of zero significance;
    `samples_looked_at` had a forward pass, and `samples_used` trained the student. `adversarial_accuracy` follows the
    float32 gradient of the softmax cross entropy, as the paper does, and `adversarial_accuracy_exact` the exact one.
    """

    model: str | list[str]
    parameters: int | list[int]
    epochs: int | list[int]
    test_accuracy: float | list[float]
    train_accuracy: float | list[float]
    samples_used: int | list[int]
    samples_looked_at: int | list[int]
    samples_presented: int | list[int]
    samples_in_all: int | list[int]
    share_used: float | list[float]
    success_rate: float | list[float | None] | None
    failure_rate: float | list[float | None] | None
    adversarial_accuracy: float | list[float | None] | None
    adversarial_accuracy_exact: float | list[float | None] | None
    seconds: float | list[float]


class BestStudent(TypedDict):
    """The student with the highest accuracy on the validation split."""

    index: int
    validation_accuracy: float
    test_accuracy: float


class Peers(TypedDict):
    """Students that trained together.

    Accuracies are of the test split; `agreement` is the share of test images on which two students predict the same
    class, by pair. `trust` has for each student the weights of its sources, by the names in `sources`.
    """

    mean_test_accuracy: float
    ensemble_test_accuracy: float
    best_on_validation: BestStudent | None
    validation_accuracy: list[float] | None
    agreement: list[list[float]]
    sources: list[str]
    trust: list[TeacherWeights] | None
    last_epoch: dict[str, list[float]]


class Separate(TypedDict):
    """The student trained alone, from the labels and without a teacher."""

    test_accuracy: float | None
    epochs: int | None


class Attack(TypedDict):
    """The transfer attack, crafted on the student trained alone, whose own accuracy is `accuracy_of_attacked`."""

    epsilon: float | None
    samples: int | None
    accuracy_of_attacked: float | None
    accuracy_of_attacked_exact: float | None


class Errors(TypedDict):
    """Calibration errors of one network on the test split."""

    expected_calibration_error: float
    adaptive_calibration_error: float
    negative_log_likelihood: float
    brier_score: float


class NetworkCalibration(Errors):
    """The errors, and those at the temperature fitted on the validation split."""

    temperature: float | None
    at_temperature: Errors | None


class RelativeCalibration(TypedDict):
    """A student beside its teacher, means over the test split."""

    agreement: float
    label_gap: float
    over_confidence: float
    under_confidence: float
    total_variation: float
    divergence: float


class Calibration(TypedDict):
    """By network and by student."""

    networks: dict[str, NetworkCalibration]
    relative: dict[str, RelativeCalibration]
    validation_examples: int


class NetworkRobustness(TypedDict):
    """Accuracy without attack, and by attack for each of the radii."""

    clean: float
    attacked: dict[str, list[float]]


class Robustness(TypedDict):
    """Accuracy under attacks on each network."""

    samples: int
    epsilons: list[float]
    steps: int
    queries: int
    networks: dict[str, NetworkRobustness]


class Radius(TypedDict):
    """Faithfulness within one radius: for each measure its value at the image, found and certified."""

    epsilon: float
    disagreement: dict[str, float]
    gap: dict[str, float]
    over_confidence: dict[str, float]
    under_confidence: dict[str, float]
    faithful_fraction: dict[str, list[float]]


class Faithfulness(TypedDict):
    """By student, for each radius."""

    samples: int
    teacher_correct: int
    steps: int
    bounds: str
    kappas: list[float]
    students: dict[str, list[Radius]]


class TransferSet(TypedDict):
    """What the student learned from.

    `real_data` is `all` for the training set itself, without further entries. For a transfer set it is `none`,
    `statistics`, `samples` or `validation`, and `agreement` is the share of its samples whose label is the teacher's
    class.
    """

    real_data: str
    name: NotRequired[str]
    label: NotRequired[str]
    images: NotRequired[int]
    rejected: NotRequired[int]
    agreement: NotRequired[float]
    images_by_class: NotRequired[list[int]]
    confidence: NotRequired[dict[str, float]]


class Significance(TypedDict):
    """Counts of participation, and rank correlations with them."""

    counted_on: str
    normalization: str
    epochs: int
    examples: int
    above_zero: int
    share_counted: float
    rank_correlation: dict[str, float | None]


class Results(TypedDict):
    """The whole of `results.json`; an evaluator of `config.evaluate.extra` adds an entry of its own name."""

    method: str
    dataset: str
    class_names: NotRequired[list[str]]  # runs of earlier versions have none
    seed: int
    commit: str | None
    device: str
    versions: dict[str, str]
    hyperparameters: dict[str, Any]
    teacher: Teacher
    student: Student
    separate: Separate
    teacher_weights: dict[str, TeacherWeights]
    significance: Significance | None
    attack: Attack
    transfer: NotRequired[TransferSet]  # runs of earlier versions have none
    calibration: Calibration | None
    robustness: Robustness | None
    faithfulness: Faithfulness | None
    peers: NotRequired[Peers | None]
    seconds: float
