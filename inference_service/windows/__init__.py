"""Long recordings: cut at pauses into windows that a speech model takes, and joined again."""

from inference_service.windows.cut import Window, cut
from inference_service.windows.in_turn import in_turn
from inference_service.windows.join import joined, placed

__all__ = ["Window", "cut", "in_turn", "joined", "placed"]
