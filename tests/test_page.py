from inpars_tpu import page


def test_long_texts_are_cut_and_say_so():
  assert page.clip('abcdef', 4) == 'abcd … (4 of 6 characters)'
  assert page.clip('abcdef', 6) == 'abcdef'


def test_section_has_an_id():
  assert page.Section('Time and cost', []).name == 'time-and-cost'
