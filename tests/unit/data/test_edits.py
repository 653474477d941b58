import numpy as np
import pandas as pd
import pytest

from kdaif.config import DataConfig, NoiseConfig, UserError
from kdaif.data import load
from kdaif.train import train_new
from tests.small import small

DATA = {"train_size": 250, "test_size": 50, "validation": 0.2}
NOISE = NoiseConfig(kind="symmetric", rate=0.3)


def loaded(edits: str | None = None, root=None):
    return load(DataConfig(edits=edits, **DATA), NOISE, 0, root)


@pytest.fixture
def csv(tmp_path):
    def write(*lines: str):
        path = tmp_path / "edits.csv"
        path.write_text("\n".join(lines))
        return str(path)

    return write


def test_samples_are_left_out_and_relabelled_and_everything_else_stays(csv):
    plain = loaded()
    first, second, third = plain.train.ids[[0, 7, 30]]
    edited = loaded(csv("id,label,note", f"{first},,out", f"{second},9,", f"{third},0,x"))
    assert list(edited.train.ids) == list(plain.train.ids[1:])
    assert edited.train.labels[6] == 9
    assert edited.train.labels[29] == 0
    same = np.setdiff1d(np.arange(1, 200), [7, 30])
    np.testing.assert_array_equal(edited.train.labels[same - 1], plain.train.labels[same])
    np.testing.assert_array_equal(edited.validation.ids, plain.validation.ids)
    np.testing.assert_array_equal(edited.validation.labels, plain.validation.labels)
    np.testing.assert_array_equal(edited.test.ids, plain.test.ids)


def test_a_relabelled_sample_is_flipped_no_more(csv):
    plain = loaded()
    row = int(plain.train.flipped.nonzero()[0])
    edited = loaded(csv("id,label", f"{plain.train.ids[row]},{plain.train.clean[row]}"))
    assert not edited.train.flipped[row]
    assert int(edited.train.flipped.sum()) == int(plain.train.flipped.sum()) - 1


def test_a_list_of_ids_alone_leaves_out_and_is_found_under_the_data_root(tmp_path, csv):
    csv("id", *loaded().train.ids[:3])
    assert len(loaded("edits.csv", tmp_path).train) == 197


def test_edits_of_samples_that_have_moved_in_the_source_are_refused(tmp_path, csv):
    table = pd.DataFrame({"text": [f"film {row}" for row in range(40)], "label": ["good", "bad"] * 20})
    table.to_csv(tmp_path / "films.csv", index=False)
    data = DataConfig(source=str(tmp_path / "films.csv"), tokenizer="bpe")
    train = load(data, NoiseConfig(), 0, None).train
    edits = csv("id,hash", f"{train.ids[3]},{train.hashes()[3]}", f"{train.ids[9]},")
    edited = data.model_copy(update={"edits": edits})
    assert len(load(edited, NoiseConfig(), 0, None).train) == len(train) - 2
    pd.concat([table[2:], table[:2]]).to_csv(tmp_path / "films.csv", index=False)
    with pytest.raises(
        UserError, match=r"^data\.edits: 1 samples have another content than the column hash of .*since"
    ):
        load(edited, NoiseConfig(), 0, None)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            ["id", "digits/test/000001"],
            r"1 ids in .* are none of the 200 training samples \(first 'digits/test/000001'\)",
        ),
        (["id,label", "{0},10"], r"has the label '10', takes one of 0, 1, "),
        (["name", "{0}"], r"has the columns name, takes id and label\."),
        (["id", "{0}", "{0}"], r"names '{0}' twice"),
        (['id,"'], r"cannot be read as csv"),
        (["id", "{all}"], r"leaves 0 training samples, takes 2 or more\."),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(csv, lines, sentence):
    ids = loaded().train.ids
    text = [line.replace("{0}", ids[0]).replace("{all}", "\n".join(ids)) for line in lines]
    with pytest.raises(UserError, match=r"data\.edits: .*" + sentence.replace("{0}", ids[0])):
        loaded(csv(*text))


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"data\.edits: got 'gone\.csv', found no such file"):
        loaded("gone.csv")


def test_a_run_is_trained_with_its_edits(csv):
    first = loaded().train.ids[0]
    result = train_new(small(f"data.edits={csv('id', first)}", "student.optim.epochs=1", "method=ce"))
    from kdaif.runs import open_run

    assert first not in set(open_run(result["run_id"]).samples()["id"])
