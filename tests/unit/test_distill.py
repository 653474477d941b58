"""Per-sample losses: values against torch's own KL and the papers' formulas, gradients in closed form, safe at the extremes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdaif import distill
from kdaif.distill import LOSSES, NCKD_WEIGHT, LossTerms

DISTILLED = sorted(set(LOSSES) - {"ce"})


def batch(samples: int = 6, classes: int = 5, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    student, teacher = scale * torch.randn(2, samples, classes, generator=random, dtype=torch.float64)
    return student, teacher, torch.randint(0, classes, (samples,), generator=random)


def teacher_term(name: str, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    return LOSSES[name](student, teacher, labels, 0.0, temperature).teacher


def student_gradient(name: str, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    leaf = student.clone().requires_grad_()
    return torch.autograd.grad(teacher_term(name, leaf, teacher, labels, temperature).sum(), leaf)[0]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_torchs_kl_per_sample_times_squared_temperature(temperature: float) -> None:
    student, teacher, labels = batch()
    per_class = F.kl_div(
        F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1), reduction="none", log_target=False
    )
    terms = LOSSES["kd"](student, teacher, labels, 0.25, temperature)
    torch.testing.assert_close(terms.teacher, 0.75 * temperature**2 * per_class.sum(1))
    torch.testing.assert_close(terms.label, 0.25 * F.cross_entropy(student, labels, reduction="none"))
    batch_mean = F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    torch.testing.assert_close(terms.teacher.mean(), 0.75 * temperature**2 * batch_mean)


@pytest.mark.parametrize("name", LOSSES)
def test_terms_are_per_sample_and_add_up(name: str) -> None:
    student, teacher, labels = batch()
    terms = LOSSES[name](student, teacher, labels, 0.3, 4.0)
    assert isinstance(terms, LossTerms)
    assert terms.label.shape == terms.teacher.shape == (6,)
    assert torch.equal(terms.total, terms.label + terms.teacher)
    assert (terms.teacher >= -1e-12).all()
    part = LOSSES[name](student[2:4], teacher[2:4], labels[2:4], 0.3, 4.0)
    torch.testing.assert_close(part.total, terms.total[2:4])


@pytest.mark.parametrize("name", LOSSES)
def test_without_a_teacher_each_is_the_plain_cross_entropy(name: str) -> None:
    student, _, labels = batch()
    terms = LOSSES[name](student, None, labels, 0.3, 4.0)
    torch.testing.assert_close(terms.label, F.cross_entropy(student, labels, reduction="none"))
    assert torch.equal(terms.teacher, torch.zeros(6, dtype=torch.float64))


def test_ce_gives_the_teacher_no_say() -> None:
    student, teacher, labels = batch()
    assert torch.equal(
        LOSSES["ce"](student, teacher, labels, 0.3, 4.0).total, F.cross_entropy(student, labels, reduction="none")
    )


@pytest.mark.parametrize("name", DISTILLED)
def test_alpha_shares_label_and_teacher(name: str) -> None:
    student, teacher, labels = batch()
    half = LOSSES[name](student, teacher, labels, 0.5, 4.0)
    label_alone, teacher_alone = (LOSSES[name](student, teacher, labels, alpha, 4.0) for alpha in (1.0, 0.0))
    torch.testing.assert_close(2 * half.label, label_alone.total)
    torch.testing.assert_close(2 * half.teacher, teacher_alone.total)


@pytest.mark.parametrize("name", DISTILLED)
def test_a_student_that_equals_its_teacher_is_at_the_minimum(name: str) -> None:
    _, teacher, labels = batch()
    assert teacher_term(name, teacher, teacher, labels, 4.0).abs().max() < 1e-12
    assert student_gradient(name, teacher, teacher, labels, 4.0).abs().max() < 1e-12


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_gradients_agree_with_finite_differences(name: str, temperature: float) -> None:
    student, teacher, labels = batch(samples=4)
    assert torch.autograd.gradcheck(
        lambda s, t: LOSSES[name](s, t, labels, 0.4, temperature).total,
        (student.requires_grad_(), teacher.requires_grad_(name != "ce")),
    )


def test_kd_gradient_in_closed_form() -> None:
    """Hinton, eq. 2, times T^2: T (softmax(z / T) - softmax(v / T))."""
    student, teacher, labels = batch()
    expected = 4.0 * (F.softmax(student / 4.0, 1) - F.softmax(teacher / 4.0, 1))
    torch.testing.assert_close(student_gradient("kd", student, teacher, labels, 4.0), expected)


def test_squared_temperature_keeps_the_gradients_size() -> None:
    """Hinton, eq. 4: for centred logits at high T the gradient tends to (z - v) / classes, whatever T."""
    student, teacher, labels = batch(scale=1.0)
    student, teacher = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    limit = (student - teacher) / 5
    for temperature in (1e3, 1e4):
        gradient = student_gradient("kd", student, teacher, labels, temperature)
        torch.testing.assert_close(gradient, limit, rtol=0, atol=10 / temperature)
    sizes = [student_gradient("kd", student, teacher, labels, t).norm() for t in (4.0, 8.0)]
    assert 0.8 < sizes[1] / sizes[0] < 1.25  # without the factor: a quarter


def dkd_parts(
    student: Tensor, teacher: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Tensor]:
    both = distill.decoupled(student, teacher, labels, 2.0)
    monkeypatch.setattr(distill, "NCKD_WEIGHT", 0.0)
    target = distill.decoupled(student, teacher, labels, 2.0)
    return target, (both - target) / NCKD_WEIGHT


def test_dkd_parts_make_up_the_kl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity that DKD starts from: KL = TCKD + (1 - p_teacher(label)) NCKD."""
    student, teacher, labels = batch()
    target, others = dkd_parts(student, teacher, labels, monkeypatch)
    sure = F.softmax(teacher / 2.0, 1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(target + (1 - sure) * others, distill.softened(student, teacher, labels, 2.0))


def test_dkd_parts_against_plain_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, labels = batch()
    target, others = dkd_parts(student, teacher, labels, monkeypatch)
    for i, label in enumerate(labels.tolist()):
        p, q = F.softmax(teacher[i] / 2.0, 0), F.softmax(student[i] / 2.0, 0)
        rest = [c for c in range(5) if c != label]
        tckd = p[label] * (p[label] / q[label]).log() + (1 - p[label]) * ((1 - p[label]) / (1 - q[label])).log()
        p_rest, q_rest = p[rest] / p[rest].sum(), q[rest] / q[rest].sum()
        torch.testing.assert_close(target[i], tckd)
        torch.testing.assert_close(others[i], (p_rest * (p_rest / q_rest).log()).sum())


def test_dkd_of_two_classes_has_nothing_among_the_others() -> None:
    student, teacher, labels = batch(classes=2)
    torch.testing.assert_close(
        distill.decoupled(student, teacher, labels, 2.0), distill.softened(student, teacher, labels, 2.0)
    )


def test_standardised_ignores_scale_and_offset_of_either_network() -> None:
    student, teacher, labels = batch()
    expected = teacher_term("kd-standardised", student, teacher, labels, 2.0)
    torch.testing.assert_close(
        teacher_term("kd-standardised", 7 * student - 3, teacher, labels, 2.0), expected, rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(
        teacher_term("kd-standardised", student, 0.5 * teacher + 9, labels, 2.0), expected, rtol=1e-4, atol=1e-6
    )


def test_standardised_is_kd_of_z_scores() -> None:
    student, teacher, labels = batch()

    def z(logits: Tensor) -> Tensor:
        return (logits - logits.mean(1, keepdim=True)) / logits.std(1, keepdim=True)

    # the authors' z-score has the sample's standard deviation: the same at T sqrt(classes / (classes - 1))
    theirs = distill.softened(z(student), z(teacher), labels, 2.0)
    ours = distill.standardised(student, teacher, labels, 2.0 * (5 / 4) ** 0.5)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_logits_stay_finite(name: str, dtype: torch.dtype) -> None:
    rows = torch.tensor([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, 0, 0], [5, 5, 5], [88, 0, -88]], dtype=dtype)
    for shift in range(5):
        student = rows.clone().requires_grad_()
        labels = torch.tensor([0, 0, 1, 2, 2])
        terms = LOSSES[name](student, rows.roll(shift, 0), labels, 0.5, 0.5)
        terms.total.sum().backward()
        assert terms.total.dtype == torch.float32
        assert terms.total.isfinite().all()
        assert student.grad is not None
        assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", DISTILLED)
def test_half_precision_logits_lose_nothing_more(name: str) -> None:
    student, teacher, labels = batch()
    half_student, half_teacher = student.bfloat16(), teacher.bfloat16()
    exact = LOSSES[name](half_student.double(), half_teacher.double(), labels, 0.5, 4.0)
    torch.testing.assert_close(
        LOSSES[name](half_student, half_teacher, labels, 0.5, 4.0).total.double(), exact.total, rtol=1e-5, atol=1e-6
    )
