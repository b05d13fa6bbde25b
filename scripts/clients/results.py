"""Reads what suites of tests print.

results.py read FILE            print "pass NAME", "fail NAME" or "skip NAME" for each test of a report: JUnit's XML,
                                RSpec's JSON, or the output of `go test -v`
results.py compare NODE BROKER  compare two such lists: print how many tests pass on each, and on stderr the tests that
                                pass in NODE and not in BROKER. Exits with 1 if there are any, or no test passes in NODE
"""

import json
import re
import sys
import xml.etree.ElementTree as xml


def junit(text):
    for case in xml.fromstring(text).iter("testcase"):
        children = {child.tag for child in case}
        outcome = "fail" if children & {"failure", "error"} else "skip" if "skipped" in children else "pass"
        yield outcome, f"{case.get('classname') or case.get('class')}.{case.get('name')}"


def rspec(text):
    outcomes = {"passed": "pass", "failed": "fail"}
    for example in json.loads(text)["examples"]:
        yield outcomes.get(example["status"], "skip"), f"{example['file_path']} {example['full_description']}"


def go(text):
    for outcome, name in re.findall(r"^\s*--- (PASS|FAIL|SKIP): (\S+)", text, re.MULTILINE):
        yield outcome.lower(), name


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    start = text.lstrip()[:1]
    for outcome, name in (junit if start == "<" else rspec if start == "{" else go)(text):
        print(outcome, " ".join(name.split()))


def passing(path):
    with open(path, encoding="utf-8") as file:
        lines = [line.rstrip("\n").split(" ", 1) for line in file]
    # Of several tests with one name, all must pass.
    return {name for _, name in lines} - {name for outcome, name in lines if outcome != "pass"}


def compare(node, broker):
    on_node, on_broker = passing(node), passing(broker)
    print(len(on_node), len(on_broker), len(on_node & on_broker))
    missing = sorted(on_node - on_broker)
    for name in missing:
        print(f"  {name}", file=sys.stderr)
    return 1 if missing or not on_node else 0


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    sys.exit({"read": read, "compare": compare}[command](*paths))
