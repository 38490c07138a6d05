package fuse

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// eachLoop runs a test with each way to read the kernel's requests.
func eachLoop(t *testing.T, test func(t *testing.T, options string), loops ...Loop) {
	for _, loop := range loops {
		t.Run(string(loop), func(t *testing.T) {
			if loop == LoopRing {
				enableRings(t)
			}
			test(t, "loop="+string(loop))
		})
	}
}

// enableRings lets mounts that are made until the end of the test use io_uring.
func enableRings(t *testing.T) {
	t.Helper()
	was, err := os.ReadFile(ringParameter)
	if err != nil {
		t.Skip("this kernel hands no requests over by io_uring: ", err)
	}
	if err := os.WriteFile(ringParameter, []byte("Y"), 0); err != nil {
		t.Skip("only root lets mounts use io_uring: ", err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(ringParameter, was, 0); err != nil {
			t.Error(err)
		}
	})
	r, err := newRing(4)
	if err != nil {
		t.Skip("no io_uring here: ", err)
	}
	r.close()
}

// Requests go by the rings, on every processor, and large ones arrive whole.
func TestRingServesEachProcessor(t *testing.T) {
	enableRings(t)
	m := mountTree(t, "loop=ring")
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", m.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	rings := 0
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.Contains(to, "io_uring") {
			rings++
		}
	}
	if queues := ringQueues(); queues == 0 || rings < 2*queues {
		t.Fatalf("%d rings for %d queues", rings, queues)
	}
	data := bytes.Repeat([]byte("0123456789abcde\n"), 3<<16) // three of the largest requests
	source := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(source, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for cpu := range ringQueues() {
		to := filepath.Join(m.dir, fmt.Sprint("by", cpu))
		within(t, time.Minute, "copying", func() error {
			// Read again past the kernel's cache.
			out, err := exec.Command("taskset", "-c", fmt.Sprint(cpu), "sh", "-c",
				`dd if="$0" of="$1" bs=1M oflag=direct status=none && dd if="$1" bs=1M iflag=direct status=none | cmp - "$0"`, source, to).CombinedOutput()
			if err != nil && strings.Contains(string(out), "failed to set pid") {
				t.Logf("processor %d is not there: %s", cpu, out)
				return nil
			}
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	m.stop()
}
