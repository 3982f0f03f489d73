"""Collect the corpus of the synthesis model: recorded human voices and synthesisers from Debian packages.

    apt-get install espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts \
        alsa-utils asterisk-core-sounds-{en,es,fr,it,ru}-wav asterisk-prompt-it-menardi-wav
    python collect.py CORPUS

writes CORPUS/{real,synthetic}/<group>/*.wav. A group is one speaker or one synthesis technique; the score
holds it out as a whole. The recordings are not in the repository (Asterisk's are CC BY-SA 3.0), only the
trained weights are.
"""

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import soundfile

SENTENCES = json.loads((Path(__file__).parent / "sentences.json").read_text(encoding="utf-8"))
ASTERISK = Path("/usr/share/asterisk/sounds")

# Allison Smith speaks the English and the Spanish prompts: one speaker, one group.
SPEAKERS = {
    "allison": [ASTERISK / "en_US_f_Allison", ASTERISK / "es_MX_f_Allison"],
    "june": [ASTERISK / "fr_CA_f_June"],
    "menardi": [ASTERISK / "it_IT_f_Menardi"],
    "carlo": [ASTERISK / "it_IT_m_Carlo"],
    "ivrvoice": [ASTERISK / "ru_RU_f_IvrvoiceRU"],
    "alsa": [Path("/usr/share/sounds/alsa")],
}
RECORDINGS_A_SPEAKER = 150
MIN_RECORDING_S = 1.2

# The name of a voice, its language and the group of its technique.
ESPEAK_VOICES = {
    "espeak-formant": {
        "en": ["en-us", "en-gb", "en-us+f3", "en-us+m3", "en-gb+f2", "en-us+m7", "en-gb+Andy"],
        "es": ["es", "es-419+f4"],
        "fr": ["fr", "fr+f1"],
        "it": ["it", "it+f5"],
        "ru": ["ru", "ru+m4"],
    },
    "espeak-klatt": {
        "en": ["en-us+klatt", "en-gb+klatt2", "en-us+klatt4", "en-us+klatt6"],
        "it": ["it+klatt"],
    },
}
FLITE_VOICES = {"flite-statistical": ["awb", "rms", "slt"], "diphone": ["kal16", "kal"]}
FESTIVAL_VOICES = {"diphone": ["kal_diphone", "ked_diphone"], "festival-hts": ["cmu_us_slt_arctic_hts"]}


def collect_real(corpus: Path) -> None:
    """Take recordings from across each speaker's longer ones."""
    for speaker, folders in SPEAKERS.items():
        target = corpus / "real" / speaker
        target.mkdir(parents=True, exist_ok=True)
        recordings = sorted(path for folder in folders for path in folder.rglob("*.wav") if _is_speech(path))
        chosen = np.random.default_rng(0).permutation(len(recordings))[:RECORDINGS_A_SPEAKER]
        for index in chosen:
            samples, rate = soundfile.read(recordings[index])
            soundfile.write(target / f"{index:04}.wav", samples, rate)


def collect_synthetic(corpus: Path) -> None:
    """Synthesise every sentence with every voice of its language, at three speaking rates if possible."""
    for group, languages in ESPEAK_VOICES.items():
        for language, voices in languages.items():
            for voice in voices:
                for number, sentence in enumerate(SENTENCES[language]):
                    target = _target(corpus, group, voice, number)
                    rate = (140, 165, 190)[number % 3]
                    subprocess.run(
                        ["espeak-ng", "-v", voice, "-s", str(rate), "-w", target, sentence], check=True
                    )
    for group, voices in FLITE_VOICES.items():
        for voice in voices:
            for number, sentence in enumerate(SENTENCES["en"]):
                target = _target(corpus, group, voice, number)
                stretch = (0.9, 1.0, 1.15)[number % 3]
                command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}"]
                subprocess.run([*command, "-t", sentence, "-o", target], check=True)
    for group, voices in FESTIVAL_VOICES.items():
        for voice in voices:
            for number, sentence in enumerate(SENTENCES["en"]):
                target = _target(corpus, group, voice, number)
                command = ["text2wave", "-eval", f"(voice_{voice})", "-o", target]
                subprocess.run(command, input=sentence, text=True, check=True)


def _is_speech(path: Path) -> bool:
    return soundfile.info(path).duration >= MIN_RECORDING_S and not (
        {"silence", "Noise.wav"} & set(path.parts)
    )


def _target(corpus: Path, group: str, voice: str, number: int) -> Path:
    target = corpus / "synthetic" / group / f"{voice.replace('+', '-')}-{number:02}.wav"
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("corpus", type=Path)
    corpus = arguments.parse_args().corpus
    collect_real(corpus)
    collect_synthetic(corpus)
