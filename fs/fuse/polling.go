package fuse

import (
	"encoding/binary"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A halted processor of a virtual machine is slow to wake: its hypervisor has to. A pipe's
// way to another processor and back was measured at 45 µs, and at 5 where idle processors
// poll for work; a request is such a way. The kernel lets them poll (its haltpoll driver)
// for as long as somebody has asked it for a latency of 0, which costs the processor time
// that nobody else wants. So it is asked only while requests come in quick succession.
const (
	latencyDevice = "/dev/cpu_dma_latency" // the kernel's "PM QoS interface"
	idleDriver    = "/sys/devices/system/cpu/cpuidle/current_driver"
	pollingDriver = "haltpoll"

	pollNow  = 0
	pollDone = 2000 * 1000 * 1000 // µs: the kernel's PM_QOS_CPU_LATENCY_DEFAULT_VALUE

	// countBy is after how many requests a thread adds them to what all have counted.
	countBy = 16
	// Polling begins with pollFrom requests in pollWithin; it ends when fewer than pollLeast
	// come in pollLook.
	pollFrom   = 2 * countBy
	pollWithin = 16 * time.Millisecond
	pollLeast  = countBy
	pollLook   = 20 * time.Millisecond
)

// polling has idle processors poll while requests come fast. A nil one does nothing.
type polling struct {
	device *os.File
	log    *slog.Logger
	begun  time.Time
	on     atomic.Bool
	since  atomic.Int64  // when counting began, while off; ns after begun
	count  atomic.Uint32 // requests since then
	look   *time.Timer
}

// newPolling returns nil where it would have no effect, or is not allowed.
func newPolling(log *slog.Logger) *polling {
	driver, err := os.ReadFile(idleDriver)
	if err != nil || strings.TrimSpace(string(driver)) != pollingDriver {
		return nil
	}
	device, err := os.OpenFile(latencyDevice, os.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	p := &polling{device: device, log: log, begun: time.Now()}
	p.ask(pollDone) // what open asks for is the kernel's to choose
	p.look = time.AfterFunc(time.Hour, p.looked)
	p.look.Stop()
	return p
}

// active reports whether idle processors poll now.
func (p *polling) active() bool { return p != nil && p.on.Load() }

// add counts n more requests.
func (p *polling) add(n uint32) {
	if p == nil {
		return
	}
	if p.on.Load() {
		p.count.Add(n)
		return
	}
	now := int64(time.Since(p.begun))
	if now-p.since.Load() > int64(pollWithin) {
		p.since.Store(now)
		p.count.Store(n)
		return
	}
	if p.count.Add(n) >= pollFrom && p.on.CompareAndSwap(false, true) {
		p.ask(pollNow)
		p.look.Reset(pollLook)
	}
}

// looked ends it when few requests came since the last look.
func (p *polling) looked() {
	if p.count.Swap(0) >= pollLeast {
		p.look.Reset(pollLook)
		return
	}
	p.ask(pollDone)
	p.on.Store(false)
}

func (p *polling) ask(microseconds uint32) {
	if _, err := p.device.Write(binary.NativeEndian.AppendUint32(nil, microseconds)); err != nil {
		p.log.Debug("asking for polling processors", "error", err)
	}
}

// close takes back what was asked for. No thread may add any more.
func (p *polling) close() {
	if p != nil {
		p.look.Stop()
		p.device.Close()
	}
}
