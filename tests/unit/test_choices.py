"""Choices of a run depend on the seed, the label and the number alone, and can be made plain."""

from __future__ import annotations

from infinitic_testing.choices import Choices


def test_the_same_seed_makes_the_same_choices() -> None:
    one, two, other = Choices(7), Choices(7), Choices(8)
    assert [one.pick("schedule", 100) for _ in range(50)] == [two.pick("schedule", 100) for _ in range(50)]
    assert [other.pick("schedule", 100) for _ in range(50)] != [Choices(7).pick("schedule", 100) for _ in range(50)]


def test_one_more_choice_with_another_label_changes_nothing() -> None:
    one, two = Choices(7), Choices(7)
    expected = [one.between("latency", 0.0, 1.0) for _ in range(10)]
    found = list[float]()
    for _ in range(10):
        two.pick("schedule", 3)
        found.append(two.between("latency", 0.0, 1.0))
    assert found == expected


def test_all_choices_but_those_that_are_kept_are_plain() -> None:
    drawn = Choices(7)
    values = [drawn.between("latency", 1.0, 2.0) for _ in range(5)]
    assert list(drawn.taken) == [("latency", number) for number in range(5)]
    kept = Choices(7, only=[("latency", 3)])
    assert [kept.between("latency", 1.0, 2.0) for _ in range(5)] == [1.0, 1.0, 1.0, values[3], 1.0]
    assert not any(kept.happens("fault", 1.0) for _ in range(100))
    assert {kept.pick("schedule", 9) for _ in range(100)} == {0}
    assert list(kept.taken) == [("latency", 3)]


def test_what_happens_keeps_to_its_probability() -> None:
    choices = Choices(1)
    assert not any(choices.happens("never", 0.0) for _ in range(1000))
    assert 200 < sum(choices.happens("often", 0.25) for _ in range(1000)) < 300
    assert sum(choices.happens("always", 1.0) for _ in range(1000)) == 1000


def test_a_stream_has_the_same_numbers_for_its_label() -> None:
    choices = Choices(7)
    assert choices.stream("user").random() == choices.stream("user").random() != choices.stream("more").random()


def test_with_what_was_taken_a_run_makes_the_same_choices_again() -> None:
    def draw(choices: Choices) -> list[float]:
        drawn: list[float] = []
        for _ in range(100):
            drawn += [
                choices.pick("schedule", 3),
                choices.happens("fault", 0.1),
                choices.between("latency", 0.5, 1.0),
            ]
        return drawn

    first = Choices(7)
    drawn = draw(first)
    labels = [label for label, _ in first.taken]
    # What came out plain is not in it.
    assert labels.count("fault") == sum(drawn[1::3]) < 20
    assert labels.count("schedule") == sum(index > 0 for index in drawn[0::3]) < 90
    assert labels.count("latency") == 100
    assert draw(Choices(7, only=first.taken)) == drawn


def test_ids_depend_on_the_seed_and_the_label() -> None:
    made = [Choices(seed).make_ids(label) for seed, label in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))]
    ids = [(make(), make()) for make in made]
    assert ids[0] == ids[1]
    assert len({each for pair in ids for each in pair}) == 6
    assert all(len(each) == 32 and int(each, 16) >= 0 for pair in ids for each in pair)
