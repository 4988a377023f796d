#!/usr/bin/env python3
"""Lists the crates in a release's binaries: emr-shs.cdx.json (CycloneDX 1.6) and THIRD-PARTY-LICENSES.txt.

    inventory.py ZIG_DIR OUT_DIR TARGET...      from the root of the tree

It lists crates that are linked for these targets, not those that only build or test, or are for other systems. It fails if a
crate does not contain the text of its licence. If the crate's repository contains the text, put it into
packaging/licences/NAME-VERSION.txt.
"""
import html
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

HERE = pathlib.Path(__file__).resolve().parent
LICENCE_FILE = re.compile(r"(un)?licen[sc]e|copying|copyright|notice", re.IGNORECASE)
# Directories of a crate that are not linked.
ASIDE = {"tests", "test", "examples", "benches", "fuzz", "docs", "ci", ".github"}


def output(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def linked(target):
    """(name, version) of every linked crate, with the features of the build."""
    lines = output("cargo", "tree", "--locked", "--target", target, "-e", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "-f", "{p}")
    return {(name, version.removeprefix("v")) for name, version in (line.split()[:2] for line in lines.splitlines() if line)}


def crates(targets):
    """cargo's metadata of the linked crates, by (name, version), and their dependencies among each other."""
    wanted = set().union(*(linked(target) for target in targets))
    packages, uses = {}, {}
    for target in targets:
        metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target))
        names = {package["id"]: (package["name"], package["version"]) for package in metadata["packages"]}
        packages |= {names[package["id"]]: package for package in metadata["packages"]}
        for node in metadata["resolve"]["nodes"]:
            normal = {names[each["pkg"]] for each in node["deps"] if any(kind["kind"] is None for kind in each["dep_kinds"])}
            uses.setdefault(names[node["id"]], set()).update(normal & wanted)
    return {each: packages[each] for each in sorted(wanted)}, {each: sorted(uses[each]) for each in wanted}


def texts_of(package):
    """The licence texts in a crate's own files."""
    root = pathlib.Path(package["manifest_path"]).parent
    named = [root / package["license_file"]] if package["license_file"] else []
    found = [path for path in sorted(root.rglob("*")) if LICENCE_FILE.match(path.name) and path.suffix not in (".rs", ".c", ".h", ".go", ".py")
             and path.is_file() and not ASIDE & set(path.relative_to(root).parts)]
    by_hand = HERE / "licences" / f"{package['name']}-{package['version']}.txt"
    if found or named:
        if by_hand.exists():
            sys.exit(f"{by_hand} is not needed any more: the crate has its licence")
        texts = [path.read_text(errors="replace") for path in dict.fromkeys(named + found)]
        # zstd lets everybody choose between BSD and GPL, and contains the texts of both.
        return [text for text in texts if "GPL" in package["license"] or "GNU GENERAL PUBLIC LICENSE" not in text[:200]]
    if not by_hand.exists():
        sys.exit(f"{package['name']} {package['version']} ({package['license']}) comes without the text of its licence, and there is no {by_hand}")
    return [by_hand.read_text()]


def runtime(zig):
    """What is linked beside crates: (name, version, licence, texts)."""
    rust = dict(line.split(": ", 1) for line in output("rustc", "-vV").splitlines()[1:])["release"]
    page = pathlib.Path(output("rustc", "--print", "sysroot").strip(), "share/doc/rust/COPYRIGHT-library.html").read_text()
    # Remove the indentation, which comes from the markup of the page.
    rust_text = re.sub(r"\n\s*\n+", "\n\n", html.unescape(re.sub(r"<[^>]+>", "", page)))
    library = pathlib.Path(zig, "lib")
    musl = re.search(r'VERSION "(.+)"', (library / "libc/musl/src/internal/version.h").read_text())[1]
    return [
        ("rust-std", rust, "MIT OR Apache-2.0", [rust_text]),
        ("musl", musl, "MIT", [(library / "libc/musl/COPYRIGHT").read_text()]),
        ("llvm-libunwind", output(f"{zig}/zig", "version").strip(), "Apache-2.0 WITH LLVM-exception", [(library / "libunwind/LICENSE.TXT").read_text()]),
    ]


def sbom(packages, uses, parts, root):
    with open("Cargo.lock", "rb") as lock:
        sums = {(each["name"], each["version"]): each.get("checksum") for each in tomllib.load(lock)["package"]}

    def purl(key):
        return f"pkg:cargo/{key[0]}@{key[1]}"

    def expression(package):
        return [{"expression": " ".join(package["license"].replace("/", " OR ").split())}]

    def component(key, package):
        return {
            "type": "library", "bom-ref": purl(key), "name": key[0], "version": key[1], "purl": purl(key),
            "hashes": [{"alg": "SHA-256", "content": sums[key]}], "licenses": expression(package),
        }

    components = [component(key, package) for key, package in packages.items() if key != root]
    components += [{"type": "library", "bom-ref": name, "name": name, "version": version, "licenses": [{"expression": licence}]} for name, version, licence, _ in parts]
    dependencies = [{"ref": purl(key), "dependsOn": [purl(each) for each in uses[key]]} for key in packages]
    next(each for each in dependencies if each["ref"] == purl(root))["dependsOn"] += [name for name, *_ in parts]
    content = {
        "metadata": {"component": {"type": "application", "bom-ref": purl(root), "name": root[0], "version": root[1], "purl": purl(root), "licenses": expression(packages[root])}},
        "components": components,
        "dependencies": dependencies,
    }
    # Derived from the content, so that the same release has the same number.
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{number}", "version": 1} | content


def licences(packages, parts, root):
    """One text with each licence once, after the names of its crates."""
    holders, shown = {}, {}
    everything = [(f"{name} {version} ({package['license']})", texts_of(package)) for (name, version), package in packages.items() if (name, version) != root]
    for holder, texts in everything + [(f"{name} {version} ({licence})", texts) for name, version, licence, texts in parts]:
        for text in texts:
            same = " ".join(text.split())
            holders.setdefault(same, {})[holder] = None
            shown.setdefault(same, text.strip("\n"))
    rule = "=" * 100
    return "".join(f"{rule}\n" + "".join(f"{holder}\n" for holder in holders[same]) + f"{rule}\n\n{text}\n\n" for same, text in shown.items())


def main():
    zig, out, *targets = sys.argv[1:]
    packages, uses = crates(targets)
    root = next(key for key, package in packages.items() if package["source"] is None)
    parts = runtime(zig)
    pathlib.Path(out, "emr-shs.cdx.json").write_text(json.dumps(sbom(packages, uses, parts, root), indent=1) + "\n")
    pathlib.Path(out, "THIRD-PARTY-LICENSES.txt").write_text(licences(packages, parts, root))


main()
