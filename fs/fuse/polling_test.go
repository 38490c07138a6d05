package fuse

import (
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Idle processors poll from a burst of requests on, until few come.
func TestPolling(t *testing.T) {
	device, err := os.OpenFile(filepath.Join(t.TempDir(), "device"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	// No timer: the test looks itself.
	p := &polling{device: device, log: slog.New(slog.DiscardHandler), begun: time.Now(), look: time.NewTimer(time.Hour)}
	defer p.close()
	asked := func() (all []uint32) {
		b, err := os.ReadFile(device.Name())
		if err != nil {
			t.Fatal(err)
		}
		for ; len(b) >= 4; b = b[4:] {
			all = append(all, binary.NativeEndian.Uint32(b))
		}
		return all
	}
	want := func(when string, values ...uint32) {
		t.Helper()
		got := asked()
		if len(got) != len(values) || len(got) > 0 && got[len(got)-1] != values[len(values)-1] {
			t.Fatalf("%s the kernel was asked for %v, want %v", when, got, values)
		}
	}
	for range 100 { // far between
		p.add(countBy)
		p.begun = p.begun.Add(-2 * pollWithin)
	}
	want("with few requests")
	for !p.on.Load() {
		p.add(countBy)
	}
	want("in a burst", pollNow)
	p.add(pollLeast)
	p.looked()
	want("while it goes on", pollNow)
	p.add(pollLeast - 1)
	p.looked()
	want("when it has passed", pollNow, pollDone)
	for !p.on.Load() {
		p.add(countBy)
	}
	want("in the next one", pollNow, pollDone, pollNow)
}

// A mount without it, as of an ordinary user or on a machine of metal, counts for nobody.
func TestNoPolling(t *testing.T) {
	var p *polling
	p.add(countBy)
	p.close()
}
