"""The only code that talks to the API server.

``connection`` finds the server and its credentials, ``gateway`` sends requests, ``reflector`` keeps a copy of a
collection, ``lease`` elects a leader, ``events`` tells users what happened, ``wire`` holds the fields that are read,
and ``convert`` turns them into the model.
"""
