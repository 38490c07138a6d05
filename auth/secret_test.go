package auth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestSecretMemory(t *testing.T) {
	b := []byte("the quick brown fox")
	want := bytes.Clone(b)
	s, err := moveSecret(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.bytes(), want) || !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("not moved")
	}
	if got := flagsOf(t, s.mem); !got["dd"] || !got["lo"] || !got["wf"] {
		t.Errorf("VmFlags %v, want dd (no dump), lo (locked) and wf (wiped on fork)", got)
	}
	s.wipe()
	s.wipe()
	var none *secret
	none.wipe()
}

func TestLockedMemoryRunsOut(t *testing.T) {
	if os.Getenv("AUTH_TEST_CHILD") != "" {
		limit := unix.Rlimit{Cur: 0, Max: 0}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			t.Fatal(err)
		}
		dropPrivileges(t) // root locks what it likes
		_, err := newSecret(32)
		fmt.Println("result:", err)
		return
	}
	out := runChild(t, "TestLockedMemoryRunsOut", "limit")
	if !strings.Contains(out, ErrLockedMemory.Error()) {
		t.Errorf("without locked memory: %s", out)
	}
}

func dropPrivileges(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		if err := unix.Setresuid(65534, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
}

// flagsOf are the kernel's flags of the mapping that b lies in.
func flagsOf(t *testing.T, b []byte) map[string]bool {
	t.Helper()
	addr := uint64(uintptr(unsafe.Pointer(&b[0])))
	for _, m := range mappings(t) {
		if m.from <= addr && addr < m.to {
			return m.flags
		}
	}
	t.Fatal("the memory is not mapped")
	return nil
}

type mapping struct {
	from, to uint64
	readable bool
	name     string
	flags    map[string]bool
}

func mappings(t *testing.T) []mapping {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []mapping
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if from, to, ok := strings.Cut(fields[0], "-"); ok && len(fields) >= 5 {
			m := mapping{readable: fields[1][0] == 'r', flags: make(map[string]bool)}
			m.from, _ = strconv.ParseUint(from, 16, 64)
			m.to, _ = strconv.ParseUint(to, 16, 64)
			if len(fields) > 5 {
				m.name = fields[5]
			}
			list = append(list, m)
		} else if fields[0] == "VmFlags:" {
			for _, x := range fields[1:] {
				list[len(list)-1].flags[x] = true
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// runChild runs one test of this binary in a process of its own.
func runChild(t *testing.T, test, arg string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), "AUTH_TEST_CHILD="+arg)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return string(out)
}

// A process that holds a session writes no core and lets nobody attach. Were there a core
// all the same, the places where keys are kept would not be in it, and no copies of the
// phrase and of the key for wrapping. (crypto/ed25519 keeps a copy of a signing key on
// the heap until the collector has run, so that one cannot be promised.)
func TestCoreHoldsNoKeys(t *testing.T) {
	if dir := os.Getenv("AUTH_TEST_CHILD"); dir != "" {
		coreChild(t, dir)
		return
	}
	dir, id := testIdentity(t, nil)
	out := runChild(t, "TestCoreHoldsNoKeys", dir)
	for _, want := range []string{"dumpable 0", "core limit 0", "found canary true", "kept apart true", "found agreement false", "found phrase false", "PASS"} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in\n%s", want, out)
		}
	}
	for _, w := range []string{hex.EncodeToString(id.Phrase.entropy.bytes()), strings.Join(id.Phrase.Words(), " ")} {
		if strings.Contains(out, w) {
			t.Error("the child printed a secret")
		}
	}
}

func coreChild(t *testing.T, dir string) {
	if err := HardenProcess(); err != nil {
		t.Fatal(err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("dumpable", dumpable)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	fmt.Println("core limit", limit.Cur+limit.Max)

	ctx := testContext(t)
	s, err := Login(ctx, dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := RecoveryPhrase(ctx, dir, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wipe()
	// Only a dumpable process may read its own memory through /proc, as a core would.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	// The canary lies on the heap and shows that the search finds what is there.
	canary, err := newSecret(32)
	if err != nil {
		t.Fatal(err)
	}
	defer canary.wipe()
	copy(canary.bytes(), "Rumpelstiltskin, spun from straw")
	exposed := bytes.Clone(canary.bytes())

	apart := true
	for _, k := range []*secret{canary, s.keys.signing, s.keys.agreement, p.entropy} {
		flags := flagsOf(t, k.mem)
		apart = apart && flags["dd"] && flags["lo"]
	}
	fmt.Println("kept apart", apart)
	for name, needle := range map[string]*secret{
		"canary": canary, "agreement": s.keys.agreement, "phrase": p.entropy,
	} {
		fmt.Println("found", name, dumped(t, needle.bytes()))
	}
	runtime.KeepAlive(exposed)
}

// dumped searches every mapping that the kernel would put into a core.
func dumped(t *testing.T, needle []byte) bool {
	t.Helper()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	buf, err := newSecret(1 << 20) // the search must not find its own buffer
	if err != nil {
		t.Fatal(err)
	}
	defer buf.wipe()
	for _, m := range mappings(t) {
		if m.flags["dd"] || !m.readable || m.name == "[vvar]" || m.name == "[vvar_vclock]" {
			continue
		}
		for at := m.from; at < m.to; {
			n, err := mem.ReadAt(buf.bytes()[:min(uint64(buf.n), m.to-at)], int64(at))
			if bytes.Contains(buf.bytes()[:n], needle) {
				return true
			}
			if err != nil && err != io.EOF || n == 0 {
				break
			}
			at += uint64(n)
		}
	}
	return false
}
