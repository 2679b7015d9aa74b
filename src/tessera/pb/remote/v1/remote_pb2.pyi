from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

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
    __slots__ = ("epoch", "about", "ticket", "refused", "left")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ABOUT_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    about: int
    ticket: str
    refused: str
    left: bool
    def __init__(self, epoch: _Optional[int] = ..., about: _Optional[int] = ..., ticket: _Optional[str] = ..., refused: _Optional[str] = ..., left: _Optional[bool] = ...) -> None: ...

class LeaseState(_message.Message):
    __slots__ = ("epoch", "serving", "limit_bytes", "sessions", "arrive", "leave", "elsewhere")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ARRIVE_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    serving: bool
    limit_bytes: int
    sessions: int
    arrive: Arrive
    leave: Leave
    elsewhere: Elsewhere
    def __init__(self, epoch: _Optional[int] = ..., serving: _Optional[bool] = ..., limit_bytes: _Optional[int] = ..., sessions: _Optional[int] = ..., arrive: _Optional[_Union[Arrive, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ..., elsewhere: _Optional[_Union[Elsewhere, _Mapping]] = ...) -> None: ...

class Arrive(_message.Message):
    __slots__ = ("epoch", "limit_bytes", "sessions")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    limit_bytes: int
    sessions: int
    def __init__(self, epoch: _Optional[int] = ..., limit_bytes: _Optional[int] = ..., sessions: _Optional[int] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("epoch", "ticket", "endpoint")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    ticket: str
    endpoint: str
    def __init__(self, epoch: _Optional[int] = ..., ticket: _Optional[str] = ..., endpoint: _Optional[str] = ...) -> None: ...

class Elsewhere(_message.Message):
    __slots__ = ("epoch", "endpoint")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    endpoint: str
    def __init__(self, epoch: _Optional[int] = ..., endpoint: _Optional[str] = ...) -> None: ...
