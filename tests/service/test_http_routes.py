"""The HTTP API as its clients see it: fields, defaults, envelope, statuses."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx2
import numpy as np
import pytest

from inference_service.errors import NotReady, RuntimeFailed, RuntimeTimeout, Unsupported
from inference_service.results import Analysis
from tests.service.conftest import Service

PCM = np.arange(16000, dtype="<i2").tobytes()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def wav(data: bytes = PCM, rate: int = 16000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(data)
    return out.getvalue()


def data_of(response: httpx2.Response) -> dict:
    body = response.json()
    assert response.status_code == body["code"] == 200, body
    assert body["message"] == "success"
    data: dict = body["data"]
    return data


# Envelope and request ids


def test_every_answer_is_in_the_envelope(client: httpx2.Client) -> None:
    for response in (client.get("/health"), client.post("/asr", json={}), client.get("/nowhere")):
        body = response.json()
        assert set(body) == {"code", "message", "data", "timestamp", "request_id"}
        assert body["code"] == response.status_code
        assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
        assert body["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("name", ["X-Request-ID", "Request-ID"])
def test_the_clients_request_id_comes_back_and_reaches_the_runtime(
    client: httpx2.Client, service: Service, name: str
) -> None:
    response = client.post("/emotion", json={"text": "hello"}, headers={name: "abc-123"})
    assert response.json()["request_id"] == response.headers["x-request-id"] == "abc-123"
    assert service.runtime.calls[-1].request_id == "abc-123"


@pytest.mark.parametrize("bad", ["x" * 129, "two words", '"quoted"', ""])
def test_a_request_id_that_is_unsafe_in_a_log_is_replaced(client: httpx2.Client, bad: str) -> None:
    response = client.get("/info", headers={"X-Request-ID": bad})
    assert response.headers["x-request-id"] not in ("", bad)


# The audio routes


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("asr", {"text", "confidence", "language", "duration_ms"}),
        ("emotion", {"emotion", "confidence", "emotions", "duration_ms"}),
        ("synthesis", {"is_synthetic", "confidence", "score", "duration_ms"}),
    ],
)
def test_base64_json_defaults_to_wav(client: httpx2.Client, route: str, fields: set[str]) -> None:
    data = data_of(client.post(f"/{route}", json={"audio_data": b64(wav())}))
    assert set(data) == fields
    assert data["duration_ms"] == 1000


def test_pcm_defaults_to_16_khz_mono_unless_the_request_gives_others(
    client: httpx2.Client, service: Service
) -> None:
    data_of(client.post("/asr", json={"audio_data": b64(PCM), "format": "pcm"}))
    audio = service.runtime.audios[-1]
    assert (audio.sample_rate, audio.samples.shape) == (16000, (16000,))
    data_of(
        client.post(
            "/asr", json={"audio_data": b64(PCM), "format": "pcm", "sample_rate": 8000, "channels": 2}
        )
    )
    audio = service.runtime.audios[-1]
    assert (audio.sample_rate, audio.seconds) == (16000, 1.0)  # half as many frames at half the rate


@pytest.mark.parametrize("meeting_id", [42, "room-7", None])
def test_a_meeting_id_is_a_number_or_a_string(
    client: httpx2.Client, service: Service, meeting_id: object
) -> None:
    data_of(client.post("/emotion", json={"text": "hi", "meeting_id": meeting_id}))
    assert service.runtime.calls[-1].meeting_id == ("" if meeting_id is None else str(meeting_id))


@pytest.mark.parametrize(
    ("given", "reaches"), [("en", "en"), ("zh-CN", "zh"), ("auto", None), ("", None), (None, None)]
)
def test_a_language_tag_reaches_the_runtime_as_its_primary_subtag(
    client: httpx2.Client, service: Service, given: str | None, reaches: str | None
) -> None:
    data_of(client.post("/asr", json={"audio_data": b64(wav()), "language": given}))
    assert service.runtime.options[-1].language == reaches


def test_emotion_takes_text_instead_of_audio(client: httpx2.Client, service: Service) -> None:
    assert data_of(client.post("/emotion", json={"text": "what a day"}))["duration_ms"] == 0
    assert service.runtime.texts == ["what a day"]


def test_unknown_fields_are_ignored(client: httpx2.Client) -> None:
    data_of(client.post("/asr", json={"audio_data": b64(wav()), "user": {"id": 1}, "model": "large"}))


@pytest.mark.parametrize(
    "spelling",
    [
        lambda text: text.rstrip("="),
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: "\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        lambda text: f"data:audio/wav;base64,{text}",
    ],
    ids=["unpadded", "url-safe", "wrapped", "data-url"],
)
def test_base64_as_clients_write_it_is_read(
    client: httpx2.Client, service: Service, spelling: Callable[[str], str]
) -> None:
    noise = np.random.default_rng(1).integers(-9999, 9999, 1001, dtype=np.int16)
    data_of(client.post("/asr", json={"audio_data": spelling(b64(noise.tobytes())), "format": "pcm"}))
    assert np.array_equal(service.runtime.audios[-1].samples, noise)


def test_json_without_a_content_type_is_read(client: httpx2.Client) -> None:
    request = client.build_request("POST", "/emotion", content=b'{"text": "hi"}')
    assert "content-type" not in request.headers
    data_of(client.send(request))


# Audio as the body, and as a file of a form


def test_a_wav_file_is_the_body(client: httpx2.Client) -> None:
    response = client.post("/asr", content=wav(rate=8000), headers={"content-type": "audio/wav"})
    assert data_of(response)["duration_ms"] == 2000


def test_pcm_is_the_body_described_by_the_query(client: httpx2.Client, service: Service) -> None:
    response = client.post(
        "/asr?sample_rate=8000&channels=2&language=fr-FR&meeting_id=7",
        content=PCM,
        headers={"content-type": "application/octet-stream"},
    )
    assert data_of(response)["language"] == "fr"
    assert service.runtime.audios[-1].seconds == 1.0
    assert service.runtime.calls[-1].meeting_id == "7"


def test_l16_is_big_endian_with_its_rate_in_the_media_type(client: httpx2.Client, service: Service) -> None:
    samples = np.array([1, -2, 300], dtype=np.int16)
    response = client.post(
        "/asr", content=samples.astype(">i2").tobytes(), headers={"content-type": "audio/L16; rate=16000"}
    )
    data_of(response)
    assert np.array_equal(service.runtime.audios[-1].samples, samples)
    assert service.runtime.audios[-1].sample_rate == 16000


def test_a_form_with_a_file_and_fields_is_read(client: httpx2.Client, service: Service) -> None:
    response = client.post(
        "/asr",
        files={"file": ("talk.wav", wav(), "audio/wav")},
        data={"language": "en", "meeting_id": "room-7"},
    )
    assert data_of(response)["duration_ms"] == 1000
    assert service.runtime.calls[-1].meeting_id == "room-7"


def test_a_large_upload_arrives_whole(client: httpx2.Client, service: Service) -> None:
    noise = np.random.default_rng(2).integers(-9999, 9999, 16000 * 300, dtype=np.int16)
    data_of(client.post("/emotion", content=noise.tobytes(), headers={"content-type": "audio/pcm"}))
    assert np.array_equal(service.runtime.audios[-1].samples, noise)


# /setup, /analyze, /batch


def test_setup_with_an_empty_body_warms_all_three(client: httpx2.Client) -> None:
    data = data_of(client.post("/setup"))
    assert set(data) == {"meeting_id", "models", "timestamp"}
    assert set(data["models"]) == {"asr", "emotion", "synthesis"}
    assert data["models"]["asr"] == {"model_name": "asr", "ready": True, "model_path": "/models/asr"}


def test_setup_says_which_model_is_not_ready_and_why(client: httpx2.Client, service: Service) -> None:
    service.runtime.error = NotReady("model asr is unloaded")
    data = data_of(client.post("/setup", json={"meeting_id": 9, "models": ["asr"]}))
    assert data["meeting_id"] == 9
    assert data["models"] == {"asr": {"model_name": "asr", "ready": False, "error": "model asr is unloaded"}}


@pytest.mark.parametrize("name", ["asr", "speech_recognition"])
def test_analyze_defaults_to_pcm_and_takes_its_parameters_as_strings(
    client: httpx2.Client, service: Service, name: str
) -> None:
    data = data_of(
        client.post(
            "/analyze",
            json={
                "task_type": name,
                "input_data": b64(PCM),
                "params": {"sample_rate": "8000", "language": "de"},
                "meeting_id": "4",
                "user_id": "5",
            },
        )
    )
    assert data["result"]["language"] == "de"
    assert service.runtime.audios[-1].seconds == len(PCM) / 2 / 8000


def test_analyze_keeps_what_it_found_under_its_task_id(client: httpx2.Client, service: Service) -> None:
    data = data_of(client.post("/analyze", json={"task_type": "emotion", "input_data": b64(b"so glad")}))
    assert service.runtime.texts == ["so glad"]

    async def kept() -> Analysis | None:
        return await service.engine.results.get(data["task_id"])

    analysis = service.in_loop(kept())
    assert analysis is not None
    assert (analysis.status, analysis.result_type) == ("ok", "emotion_detection")


def test_a_result_that_cannot_be_stored_is_answered_all_the_same(
    serve: Callable[..., Service], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "results.sqlite3").mkdir()  # SQLite cannot open it, as a damaged file or a full disk
    service = serve()
    request = {"task_type": "asr", "input_data": b64(bytes(3200))}
    with httpx2.Client(base_url=f"{service.url}/api/v1/ai", timeout=20) as client:
        data = data_of(client.post("/analyze", json=request))
    assert data["task_id"]
    assert "a result is not stored" in caplog.text


def test_analyze_of_emotion_with_a_format_takes_audio(client: httpx2.Client) -> None:
    body = {"task_type": "emotion_detection", "input_data": b64(wav()), "params": {"format": "wav"}}
    assert data_of(client.post("/analyze", json=body))["result"]["duration_ms"] == 1000


def test_batch_keeps_the_order_and_one_failure_is_that_tasks_alone(client: httpx2.Client) -> None:
    data = data_of(
        client.post(
            "/batch",
            json={
                "tasks": [
                    {"task_id": "1", "type": "asr", "data": {"audio_data": b64(wav())}},
                    {"task_id": "2", "type": "dance", "data": {}},
                    {"task_id": "3", "type": "synthesis", "data": {"audio_data": "%%%"}},
                    {"task_id": "4", "type": "emotion", "data": {"text": "hi"}},
                    {"task_id": "5", "type": "asr", "data": [1]},
                ]
            },
        )
    )
    assert data["total"] == 5
    results = data["results"]
    assert [result["task_id"] for result in results] == ["1", "2", "3", "4", "5"]
    assert [set(result) - {"task_id", "type"} for result in results] == [
        {"result"},
        {"error"},
        {"error"},
        {"result"},
        {"error"},
    ]
    assert "tasks[2].data.audio_data" in results[2]["error"]


def test_batch_runs_its_tasks_at_once_but_leaves_half_of_the_places_to_others(
    serve: Callable[..., Service],
) -> None:
    service = serve(SERVER__MAX_CONCURRENCY="4", SERVER__MAX_QUEUE="0")
    service.runtime.hold = True
    tasks = [{"task_id": str(at), "type": "emotion", "data": {"text": "x"}} for at in range(9)]
    results = []

    def send() -> None:
        with httpx2.Client(base_url=f"{service.url}/api/v1/ai", timeout=60) as client:
            results.extend(data_of(client.post("/batch", json={"tasks": tasks}))["results"])

    with service.meanwhile(send):
        service.wait_until(lambda: service.runtime.running == 2)
        # There is room for others beside the batch.
        for _ in range(2):
            with pytest.raises(httpx2.ReadTimeout):
                httpx2.post(f"{service.url}/api/v1/ai/emotion", json={"text": "y"}, timeout=0.5)
        service.runtime.hold = False
    assert all("result" in result for result in results)
    assert service.runtime.texts.count("y") == 2
    assert service.runtime.most_running <= 4


# Status routes


def test_health_of_the_process_has_no_envelope(service: Service) -> None:
    body = httpx2.get(f"{service.url}/health").json()
    assert set(body) == {"status", "service", "time"}
    assert (body["status"], body["service"]) == ("ok", "ai-inference-service")


def test_health_of_the_node_is_503_with_the_reason_when_a_model_is_not_ready(
    client: httpx2.Client, service: Service
) -> None:
    assert set(data_of(client.get("/health"))) == {"status", "service", "timestamp"}
    service.runtime.problems = ["model asr: unloaded"]
    service.engine._readiness.forget()
    response = client.get("/health")
    assert response.status_code == 503
    assert "model asr: unloaded" in response.json()["message"]


def test_info_says_what_the_node_offers(client: httpx2.Client) -> None:
    data = data_of(client.get("/info"))
    assert data["capabilities"] == ["speech_recognition", "emotion_detection", "synthesis_detection"]
    assert data["models"] == {"asr": "asr", "emotion": "emotion", "synthesis": "synthesis"}
    assert {"service", "version", "description", "runtime", "timestamp"} <= set(data)


def test_metrics_count_requests_audio_and_runtime_time(client: httpx2.Client, service: Service) -> None:
    data_of(client.post("/asr", json={"audio_data": b64(wav())}))
    text = httpx2.get(f"{service.url}/metrics").text
    for name in (
        'ai_requests_total{entrance="http",route="/api/v1/ai/asr",status="200"}',
        "ai_request_seconds_bucket",
        "ai_requests_in_flight",
        "ai_inferences_queued",
        'ai_runtime_seconds_count{outcome="ok",runtime="triton",task="speech_recognition"}',
        'ai_audio_seconds_total{task="speech_recognition"}',
    ):
        assert name in text


# Errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unsupported("no"), 501),
        (NotReady("model asr is not loaded"), 503),
        (RuntimeFailed("no text in the answer"), 500),
        (RuntimeTimeout("too long"), 504),
    ],
)
def test_what_the_runtime_says_becomes_its_status(
    client: httpx2.Client, service: Service, error: Exception, status: int
) -> None:
    service.runtime.error = error
    response = client.post("/asr", json={"audio_data": b64(wav())})
    assert (response.status_code, response.json()["message"]) == (status, str(error))


def test_a_bug_is_a_500_in_the_envelope_without_a_traceback(client: httpx2.Client, service: Service) -> None:
    service.runtime.error = ZeroDivisionError("secret detail")
    response = client.post("/asr", json={"audio_data": b64(wav())})
    assert response.status_code == response.json()["code"] == 500
    assert "secret detail" not in response.text
    service.runtime.error = None
    data_of(client.post("/asr", json={"audio_data": b64(wav())}))


def test_a_full_node_says_when_to_come_back(serve: Callable[..., Service]) -> None:
    service = serve(SERVER__MAX_CONCURRENCY="1", SERVER__MAX_QUEUE="0")
    service.runtime.delay = 1.0
    url = f"{service.url}/api/v1/ai"
    with service.meanwhile(lambda: httpx2.post(f"{url}/emotion", json={"text": "a"})):
        service.wait_until(lambda: service.runtime.running == 1)
        response = httpx2.post(f"{url}/emotion", json={"text": "b"})
        assert httpx2.get(f"{url}/info").status_code == 200
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1


def test_with_keys_set_every_route_but_the_monitors_asks_for_one(serve: Callable[..., Service]) -> None:
    url = serve(SERVER__API_KEYS="one,two").url
    for path in ("/health", "/metrics", "/api/v1/ai/health"):
        assert httpx2.get(url + path).status_code == 200
    info = f"{url}/api/v1/ai/info"
    assert httpx2.get(info).status_code == 401
    assert httpx2.get(info, headers={"X-API-Key": "three"}).status_code == 401
    assert httpx2.get(info, headers={"Authorization": "Basic one"}).status_code == 401
    assert httpx2.get(info, headers={"X-API-Key": "one"}).status_code == 200
    assert httpx2.get(info, headers={"Authorization": "Bearer two"}).status_code == 200
    refused = httpx2.post(f"{url}/api/v1/ai/asr", content=b"x" * 1000)
    assert refused.status_code == refused.json()["code"] == 401


def test_a_route_for_another_method_is_405_with_the_allowed_ones(client: httpx2.Client) -> None:
    response = client.get("/asr")
    assert (response.status_code, response.headers["allow"]) == (405, "POST, OPTIONS")
    assert client.delete("/health").status_code == 405
