"""What every other room builds on.

The abstractions (`flow`, `optimizer`, `potential`), the record of a run (`trajectory`, `results`,
`cost`, `variables`), arithmetic on parameters (`trees`, `arrays`), the checks of what users pass to
constructors (`validation`), and how programs are compiled (`compilation`, `batches`). This room
imports no other.
"""
