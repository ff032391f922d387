"""The report on an adapter: one HTML page that shows how it answers labelled rows.

The way of a call: ``report`` reads the rows, ``answered`` has the adapter answer them, and a table in ``report`` says
which sections a kind of task has. Each section is computed by one module, with its figures as JSON and its pictures
(``drawings``); ``page`` renders them.
"""
