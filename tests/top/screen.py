"""Runs a command on a terminal of its own, types, and prints as JSON what was on the screen.

screen.py STEPS COMMAND...: STEPS is a JSON list. {"wait": TEXT} waits until TEXT is on the screen, {"type": TEXT}
types, {"size": [COLUMNS, ROWS]} changes the size, {"signal": NAME} sends a signal, {"stop": PID} stops another process, {"end": null} waits for
the end. After each step but the last, the screen is noted.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

TIMEOUT = 60


class Screen:
    """As much of a terminal as is needed: text at a place, and moving there."""

    TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b.|([\x00-\x1f])|([^\x00-\x1f\x1b])")

    def __init__(self, columns, rows):
        self.clear(columns, rows)
        self.rest = ""

    def clear(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0

    def feed(self, text):
        text = self.rest + text
        # What is not complete yet waits for the rest of it.
        end = re.search(r"(?:\x1b(?:\[[0-9;?]*|[()])?)?$", text).start()
        text, self.rest = text[:end], text[end:]
        for token in self.TOKEN.finditer(text):
            self.obey(token)

    def obey(self, token):
        numbers, command, control, char = token.groups()
        if command == "H":
            row, column = ((numbers or "1;1").split(";") + ["1"])[:2]
            self.row, self.column = int(row or 1) - 1, int(column or 1) - 1
        elif command == "J":
            self.clear(self.columns, self.rows)
        elif control == "\r":
            self.column = 0
        elif control == "\n":
            self.row += 1
        elif char:
            if self.row < self.rows and self.column < self.columns:
                self.cells[self.row][self.column] = char
            self.column += 1

    def lines(self):
        return ["".join(row).rstrip() for row in self.cells]


def main():
    steps, command = json.loads(sys.argv[1]), sys.argv[2:]
    controller, terminal = pty.openpty()

    def resize(columns, rows):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    resize(80, 24)
    before = termios.tcgetattr(terminal)
    child = os.fork()
    if child == 0:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for stream in range(3):
            os.dup2(terminal, stream)
        os.execv(command[0], command)
    screen, printed, noted, code = Screen(80, 24), "", [], None

    def read():
        nonlocal printed
        ready, _, _ = select.select([controller], [], [], 0.05)
        if ready:
            text = os.read(controller, 65536).decode(errors="replace")
            printed += text
            screen.feed(text)

    def until(what, so):
        deadline = time.monotonic() + TIMEOUT
        while not so():
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                sys.exit("this did not come about: %s\n%s" % (what, "\n".join(screen.lines())))
            read()

    def ended():
        nonlocal code
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
        return bool(pid)

    for step in steps:
        [(kind, value)] = step.items()
        if kind == "wait":
            until(value, lambda: any(value in line for line in screen.lines()))
        elif kind == "type":
            os.write(controller, value.encode())
        elif kind == "size":
            screen.clear(*value)
            resize(*value)
        elif kind == "signal":
            os.kill(child, getattr(signal, value))
        elif kind == "stop":
            os.kill(value, signal.SIGTERM)
        elif kind == "end":
            until("it ended", ended)
        noted.append(screen.lines())
    read()
    print(json.dumps({
        "screens": noted,
        "code": code,
        "is_restored": termios.tcgetattr(terminal) == before,
        "left": "\x1b[?1049h" in printed and "\x1b[?1049l" in printed.split("\x1b[?1049h")[-1],
        "shows_cursor": printed.rfind("\x1b[?25h") > printed.rfind("\x1b[?25l"),
        "has_colours": bool(re.search(r"\x1b\[(?:[0-9]+;)*[34]8[;:]|\x1b\[(?:[0-9]+;)*[34][1-7]m", printed)),
    }))


main()
