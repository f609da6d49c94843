"""Refuses requests that have one of many words in their path, query or body: 403.

One pass over the text finds all words: ten thousand cost hardly more than ten.
"""

from urllib.parse import unquote_plus

import ahocorasick

Schema = ({"words": {"type": "array", "required": True, "len_min": 1, "elements": {"type": "string"}}},)
version = "1.0.0"
priority = 900


class Plugin:
    def __init__(self, config):
        self.words = ahocorasick.Automaton()
        for word in config["words"]:
            self.words.add_word(word.lower(), word)
        self.words.make_automaton()

    def access(self, kong):
        path, _ = kong.request.get_path_with_query()
        body, err = kong.request.get_raw_body()
        if err:
            # A body that cannot be read cannot be searched.
            kong.response.exit(413, {"message": "the body cannot be read"})
        texts = (path, unquote_plus(path), body.decode("utf-8", "replace"))
        if any(map(self.is_blocked, texts)):
            kong.response.exit(403, {"message": "blocked"})

    def is_blocked(self, text):
        return next(self.words.iter(text.lower()), None) is not None
