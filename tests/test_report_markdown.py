from inpars_tpu import charts, page, report_markdown


def test_page_as_markdown():
  figure = charts.bars('b', 'Bars', ['x'], {'y': [1.0]}, show=str)
  samples = [
    page.Sample('a | b', 'logit 0.5', 'd_1', 'one\ntwo'),
    page.Sample('<c>', 'logit -0.5', 'd2', 'z' * 300),
  ]
  blocks = [
    page.Facts([('kept', '10', 'of 20'), ('hours', '3', '')]),
    page.Paragraph('Said *so*.'),
    page.Links([('s', 's/report.html')]),
    page.Table('Table', ['a', 'n'], [['x', '1']], note='Note.'),
    page.Samples('Some', samples),
    figure,
  ]
  content = page.Page('T', 'sub', ['warn'], [page.Section('S', blocks)])
  assert report_markdown.to_markdown(content) == (
    """# T

sub

> warn

## S

- kept: **10** (of 20)
- hours: **3**

Said \\*so\\*.

- [s](s/report.html)

**Table**

| a | n |
| --- | ---: |
| x | 1 |

Note.

**Some**

| query | logit | doc\\_id | document |
| --- | --- | --- | --- |
| a \\| b | 0.5 | d\\_1 | one two |
| \\<c\\> | -0.5 | d2 | """
    + 'z' * 200
    + """ … (200 of 300 characters) |

*Bars.* x: 1.0.
"""
  )
