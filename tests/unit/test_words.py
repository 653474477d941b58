from kdaif.words import Word, words_of


def test_pieces_are_merged_and_spaces_left_out():
    # [CLS] ' un' 'seen' ',' ' !' [SEP]
    words = words_of(
        ["An unseen,  !"],
        [None, 0, 0, 0, 0, None],
        [None, 0, 0, 1, 2, None],
        [(0, 0), (2, 5), (5, 9), (9, 10), (11, 13), (0, 0)],
    )
    assert words == (Word(0, 3, 9, (1, 2)), Word(0, 9, 10, (3,)), Word(0, 12, 13, (4,)))


def test_the_sentences_of_a_pair_count_their_words_apart():
    words = words_of(["a", "b"], [0, None, 1], [0, None, 0], [(0, 1), (0, 0), (0, 1)])
    assert words == (Word(0, 0, 1, (0,)), Word(1, 0, 1, (2,)))


def test_a_word_of_spaces_keeps_its_place():
    assert words_of([" "], [0], [0], [(0, 1)]) == (Word(0, 0, 1, (0,)),)
