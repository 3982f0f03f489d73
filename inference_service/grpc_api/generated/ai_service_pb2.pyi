import datetime

from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AIResult(_message.Message):
    __slots__ = ("result_type", "result_data", "confidence", "created_at")
    RESULT_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESULT_DATA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    result_type: str
    result_data: str
    confidence: float
    created_at: _timestamp_pb2.Timestamp
    def __init__(self, result_type: _Optional[str] = ..., result_data: _Optional[str] = ..., confidence: _Optional[float] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ProcessAudioDataRequest(_message.Message):
    __slots__ = ("audio_data", "format", "sample_rate", "channels", "room_id", "user_id", "tasks", "duration")
    AUDIO_DATA_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    audio_data: bytes
    format: str
    sample_rate: int
    channels: int
    room_id: str
    user_id: int
    tasks: _containers.RepeatedScalarFieldContainer[str]
    duration: int
    def __init__(self, audio_data: _Optional[bytes] = ..., format: _Optional[str] = ..., sample_rate: _Optional[int] = ..., channels: _Optional[int] = ..., room_id: _Optional[str] = ..., user_id: _Optional[int] = ..., tasks: _Optional[_Iterable[str]] = ..., duration: _Optional[int] = ...) -> None: ...

class ProcessAudioDataResponse(_message.Message):
    __slots__ = ("task_id", "status", "error", "results")
    class ResultsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AIResult
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AIResult, _Mapping]] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    status: str
    error: str
    results: _containers.MessageMap[str, AIResult]
    def __init__(self, task_id: _Optional[str] = ..., status: _Optional[str] = ..., error: _Optional[str] = ..., results: _Optional[_Mapping[str, AIResult]] = ...) -> None: ...

class ProcessVideoFrameRequest(_message.Message):
    __slots__ = ("frame_data", "format", "width", "height", "room_id", "user_id", "tasks", "fps")
    FRAME_DATA_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    frame_data: bytes
    format: str
    width: int
    height: int
    room_id: str
    user_id: int
    tasks: _containers.RepeatedScalarFieldContainer[str]
    fps: int
    def __init__(self, frame_data: _Optional[bytes] = ..., format: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., room_id: _Optional[str] = ..., user_id: _Optional[int] = ..., tasks: _Optional[_Iterable[str]] = ..., fps: _Optional[int] = ...) -> None: ...

class ProcessVideoFrameResponse(_message.Message):
    __slots__ = ("task_id", "status", "error", "results")
    class ResultsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AIResult
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AIResult, _Mapping]] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    status: str
    error: str
    results: _containers.MessageMap[str, AIResult]
    def __init__(self, task_id: _Optional[str] = ..., status: _Optional[str] = ..., error: _Optional[str] = ..., results: _Optional[_Mapping[str, AIResult]] = ...) -> None: ...

class AudioChunk(_message.Message):
    __slots__ = ("data", "sequence", "stream_id", "user_id", "room_id", "format", "sample_rate", "channels", "tasks", "is_final")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    sequence: int
    stream_id: str
    user_id: int
    room_id: str
    format: str
    sample_rate: int
    channels: int
    tasks: _containers.RepeatedScalarFieldContainer[str]
    is_final: bool
    def __init__(self, data: _Optional[bytes] = ..., sequence: _Optional[int] = ..., stream_id: _Optional[str] = ..., user_id: _Optional[int] = ..., room_id: _Optional[str] = ..., format: _Optional[str] = ..., sample_rate: _Optional[int] = ..., channels: _Optional[int] = ..., tasks: _Optional[_Iterable[str]] = ..., is_final: _Optional[bool] = ...) -> None: ...

class VideoChunk(_message.Message):
    __slots__ = ("data", "sequence", "stream_id", "user_id", "room_id", "format", "width", "height", "fps", "tasks", "is_final")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    sequence: int
    stream_id: str
    user_id: int
    room_id: str
    format: str
    width: int
    height: int
    fps: int
    tasks: _containers.RepeatedScalarFieldContainer[str]
    is_final: bool
    def __init__(self, data: _Optional[bytes] = ..., sequence: _Optional[int] = ..., stream_id: _Optional[str] = ..., user_id: _Optional[int] = ..., room_id: _Optional[str] = ..., format: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., fps: _Optional[int] = ..., tasks: _Optional[_Iterable[str]] = ..., is_final: _Optional[bool] = ...) -> None: ...

class AIStreamResult(_message.Message):
    __slots__ = ("stream_id", "sequence", "result_type", "result_data", "confidence", "is_final", "timestamp")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESULT_DATA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    stream_id: str
    sequence: int
    result_type: str
    result_data: str
    confidence: float
    is_final: bool
    timestamp: _timestamp_pb2.Timestamp
    def __init__(self, stream_id: _Optional[str] = ..., sequence: _Optional[int] = ..., result_type: _Optional[str] = ..., result_data: _Optional[str] = ..., confidence: _Optional[float] = ..., is_final: _Optional[bool] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetAIAnalysisRequest(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class GetAIAnalysisResponse(_message.Message):
    __slots__ = ("task_id", "status", "result_type", "result_data", "confidence", "created_at")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESULT_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESULT_DATA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    status: str
    result_type: str
    result_data: str
    confidence: float
    created_at: _timestamp_pb2.Timestamp
    def __init__(self, task_id: _Optional[str] = ..., status: _Optional[str] = ..., result_type: _Optional[str] = ..., result_data: _Optional[str] = ..., confidence: _Optional[float] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class NotifyAIResultRequest(_message.Message):
    __slots__ = ("room_id", "user_id", "result_type", "result_data", "confidence")
    ROOM_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESULT_DATA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    room_id: str
    user_id: int
    result_type: str
    result_data: str
    confidence: float
    def __init__(self, room_id: _Optional[str] = ..., user_id: _Optional[int] = ..., result_type: _Optional[str] = ..., result_data: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...
