from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class SignRequest(_message.Message):
    __slots__ = ("certificate_request",)
    CERTIFICATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    certificate_request: bytes
    def __init__(self, certificate_request: _Optional[bytes] = ...) -> None: ...

class SignReply(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...

class AdmitRequest(_message.Message):
    __slots__ = ("token", "container", "epoch")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    token: str
    container: str
    epoch: int
    def __init__(self, token: _Optional[str] = ..., container: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class AdmitReply(_message.Message):
    __slots__ = ("limit_bytes", "sessions")
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    limit_bytes: int
    sessions: int
    def __init__(self, limit_bytes: _Optional[int] = ..., sessions: _Optional[int] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class LeaseState(_message.Message):
    __slots__ = ("epoch", "serving", "limit_bytes", "sessions")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    serving: bool
    limit_bytes: int
    sessions: int
    def __init__(self, epoch: _Optional[int] = ..., serving: _Optional[bool] = ..., limit_bytes: _Optional[int] = ..., sessions: _Optional[int] = ...) -> None: ...
