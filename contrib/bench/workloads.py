#!/usr/bin/env python3
"""workloads.py [--quick] [--only STEPS] [--drain COMMAND] DIR: run the standing workloads
in DIR and print one JSON object.

Names that end in _s are seconds (less is better), _MBps, _iops and _txps are rates. A step
that fails is noted as such. COMMAND is run and timed after each step: it waits until what
was written is where it belongs.
Needs fio and git; as root the kernel's caches are dropped before what is called cold.
The source tree is Go's own, packed into a tar file outside DIR first.
"""
import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time


def run(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def cold():
    run("sync")
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
    except PermissionError:
        pass


class Bench:
    def __init__(self, top, quick):
        self.dir = os.path.join(top, "bench")
        os.mkdir(self.dir)
        self.quick = quick
        os.sync()
        self.figures = {}
        self.outside = tempfile.mkdtemp(prefix="ipfscloud-workloads-")

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.outside)

    def note(self, name, value):
        self.figures[name] = round(value, 3)
        print(f"  {name} {value:.3f}", file=sys.stderr, flush=True)

    def timed(self, name, what, rate=0.0):
        start = time.monotonic()
        what()
        took = time.monotonic() - start
        self.note(name, rate / took if rate else took)

    def sequential(self):
        mib = 128 if self.quick else 512
        path, block = os.path.join(self.dir, "big"), os.urandom(128 << 10)

        def write():
            with open(path, "wb", buffering=0) as f:
                for i in range(mib * 8):
                    f.write(i.to_bytes(8, "big") + block[8:])
                os.fsync(f.fileno())

        def read():
            with open(path, "rb", buffering=0) as f:
                while f.read(128 << 10):
                    pass

        megabytes = mib * 1.048576
        self.timed("seqwrite_MBps", write, megabytes)
        cold()
        self.timed("seqread_cold_MBps", read, megabytes)
        self.timed("seqread_warm_MBps", read, megabytes)
        os.unlink(path)

    def fio(self, **options):
        args = [f"--{k}={v}" for k, v in options.items()]
        out = run("fio", "--name=job", f"--directory={self.dir}", "--filename=random", "--size=128m",
                  "--ioengine=psync", "--output-format=json", *args)
        return json.loads(out)["jobs"][0]

    def random(self):
        seconds = 4 if self.quick else 8
        self.fio(rw="write", bs="1m", end_fsync=1)
        cold()
        job = self.fio(rw="randread", bs="4k", runtime=seconds, time_based=1)
        self.note("randread4k_cold_iops", job["read"]["iops"])
        job = self.fio(rw="randwrite", bs="4k", io_size="32m", end_fsync=1)
        self.note("randwrite4k_endfsync_iops", 8192 / (job["job_runtime"] / 1000))
        job = self.fio(rw="randwrite", bs="4k", runtime=seconds, time_based=1, fsync=1)
        self.note("fsync4k_iops", job["write"]["iops"])
        os.unlink(os.path.join(self.dir, "random"))

    def sqlite(self):
        n = 200 if self.quick else 1000
        db = sqlite3.connect(os.path.join(self.dir, "db"), isolation_level=None)

        def insert(count):
            for _ in range(count):
                db.execute("insert into t(b) values(?)", (os.urandom(200),))

        try:
            db.execute("pragma journal_mode=wal")
            db.execute("pragma synchronous=full")
            db.execute("create table t(a integer primary key, b blob)")
            self.timed("sqlite_wal_full_txps", lambda: insert(n), n)
            db.execute("pragma journal_mode=delete")
            self.timed("sqlite_delete_full_txps", lambda: insert(n // 4), n // 4)
            if db.execute("pragma integrity_check").fetchone()[0] != "ok":
                sys.exit("SQLite's integrity check failed")
        finally:
            db.close()

    def tree(self):
        tar = os.path.join(self.outside, "src.tar")
        root = run("go", "env", "GOROOT").strip()
        run("tar", "-C", root, "-cf", tar, "src")
        top = os.path.join(self.dir, "tree")
        os.mkdir(top)
        self.timed("untar_s", lambda: run("tar", "-C", top, "-xf", tar))
        cold()
        self.timed("ls_lR_cold_s", lambda: run("ls", "-lR", top))
        cold()
        self.timed("md5_tree_cold_s", lambda: run("sh", "-c", "find $0 -type f -print0 | xargs -0 md5sum", top))
        self.timed("find_stat_warm_s", lambda: run("find", top, "-newer", tar))
        self.timed("rm_rf_s", lambda: shutil.rmtree(top))

    def git(self):
        root, origin = run("go", "env", "GOROOT").strip(), os.path.join(self.outside, "origin")
        shutil.copytree(os.path.join(root, "src", "cmd"), origin, symlinks=True)
        run("git", "-C", origin, "init", "-q")
        run("git", "-C", origin, "add", "-A")
        run("git", "-C", origin, "-c", "user.name=b", "-c", "user.email=b@localhost", "commit", "-qm", "all")
        clone = os.path.join(self.dir, "clone")
        self.timed("git_clone_s", lambda: run("git", "clone", "-q", "--no-local", origin, clone))
        cold()
        self.timed("git_status_cold_s", lambda: run("git", "-C", clone, "status", "--porcelain"))
        self.timed("git_status_warm_s", lambda: run("git", "-C", clone, "status", "--porcelain"))


STEPS = ["sequential", "random", "sqlite", "tree", "git"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--only", default=",".join(STEPS))
    p.add_argument("--drain", default="")
    o = p.parse_args()
    b = Bench(o.dir, o.quick)
    try:
        for step in o.only.split(","):
            try:
                getattr(b, step)()
            except (OSError, subprocess.CalledProcessError, sqlite3.Error) as e:
                print(f"  {step} fails: {e}", file=sys.stderr, flush=True)
                b.figures[step] = f"fails: {type(e).__name__}"
            if o.drain:
                b.timed(step + "_drain_s", lambda: run("sh", "-c", o.drain))
    finally:
        b.close()
    print(json.dumps(b.figures))


main()
