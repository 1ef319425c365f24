"""The gist of an exception that was not written for users."""


def brief(error: BaseException, limit: int = 200) -> str:
    """The last line of an error's message that says something, cut to `limit` characters.

    TVM's messages begin with C++ stack traces and checks; their end holds the reason.
    """
    stripped = (line.strip() for line in str(error).splitlines())
    lines = [line for line in stripped if line and not line.startswith(("#", "File "))]
    # Where a program is quoted with a part of it underlined, the reason is in front.
    marked = any(set(line) == {"^"} for line in lines)
    text = lines[0 if marked else -1] if lines else type(error).__name__
    if isinstance(error, KeyError | AssertionError | IndexError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= limit else text[: limit - 3] + "..."
