import pytest


@pytest.fixture
def sent(cuda, monkeypatch):
    """The codes of the records that are put meanwhile: 14 is PROGRAM, 15 RUN."""
    from tessera.remote.client.tensor import RemoteTensor

    found, session = [], RemoteTensor.remote.session
    put = session.put
    monkeypatch.setattr(session, "put", lambda record: (found.append(record[0]), put(record)))
    return found
