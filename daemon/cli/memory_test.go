package cli

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth"
)

// The long-term keys of a mounted drive lie in locked memory and nowhere else; the key of the
// journal's records is the one that the standard library has a copy of on the heap. This
// is what THREATS.md says. The test reads the memory of a daemon that has mounted, committed,
// and begun a second epoch of nothing: what it does all day.
func TestKeysInMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root reads the memory of a process that is not dumpable")
	}
	t.Parallel()
	d := newDrive(t)
	for i := range 20 {
		if err := os.WriteFile(d.on(fmt.Sprint("file", i)), bytes.Repeat([]byte{byte(i)}, 20000*i+1), 0o600); err != nil {
			t.Fatal(err)
		}
		if i%7 == 6 {
			d.ok("sync", "--durability", "ipfs")
		}
	}
	vault, id := d.vaultKey()
	journal := deriveKey(t, vault, id, "ipfscloud/v1/journal")
	names, err := filepath.Glob(filepath.Join(d.home.Journal, hex.EncodeToString(id), "*.seg"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	segment, err := os.ReadFile(names[len(names)-1])
	if err != nil {
		t.Fatal(err)
	}
	records := deriveKey(t, journal, segment[16:48], "ipfscloud/v2/journal")
	daemon, agent := d.status().PID, d.agentPID()
	base64Vault := []byte(base64.StdEncoding.EncodeToString(vault))
	for _, x := range []struct {
		name     string
		pid      int
		key      []byte
		locked   bool // at least one copy, in locked memory
		unlocked int  // at most so many elsewhere
	}{
		{"daemon: vault key", daemon, vault, true, 0},
		{"daemon: vault key in base64, as the agent sends it", daemon, base64Vault, false, 0},
		{"daemon: journal key", daemon, journal, true, 0},
		{"daemon: key of the journal's records", daemon, records, false, 2},
		{"daemon: passphrase", daemon, []byte("correct horse"), false, 0},
		{"agent: vault key", agent, vault, false, 0},
		{"agent: vault key in base64", agent, base64Vault, false, 0},
		{"agent: passphrase", agent, []byte("correct horse"), false, 0},
	} {
		locked, elsewhere := scanMemory(t, x.pid, x.key)
		t.Logf("%s: %d in locked memory, %d elsewhere %v", x.name, locked, len(elsewhere), elsewhere)
		if x.locked && locked == 0 {
			t.Errorf("%s: not found in locked memory: the scan looks in the wrong place", x.name)
		}
		if len(elsewhere) > x.unlocked {
			t.Errorf("%s: %d copies outside locked memory, want at most %d: %v", x.name, len(elsewhere), x.unlocked, elsewhere)
		}
	}
}

func deriveKey(t *testing.T, key, salt []byte, label string) []byte {
	t.Helper()
	b, err := hkdf.Key(sha256.New, key, salt, label, 32)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vaultKey is the key of the drive's vault, and the vault's id, by way of the agent and of
// the keyring in the local state.
func (d *drive) vaultKey() (key, id []byte) {
	d.t.Helper()
	var s struct {
		Accepted struct{ Keyring []byte }
	}
	b, err := os.ReadFile(filepath.Join(d.home.State, "heads.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	ring := s.Accepted.Keyring
	if len(ring) < 30 || string(ring[:4]) != "ICKR" {
		d.t.Fatalf("no keyring: %x", ring)
	}
	ctx := context.Background()
	agent, err := auth.Dial(ctx, d.home.AgentSocket())
	if err != nil {
		d.t.Fatal(err)
	}
	id = ring[5:21]
	info := append([]byte("ipfscloud/v1/keyring\x00"), ring[5:29]...)
	n, size := binary.Uvarint(ring[29:])
	rest := ring[29+size:]
	for range n {
		length, size := binary.Uvarint(rest)
		entry := rest[size : size+int(length)]
		rest = rest[size+int(length):]
		if key, err := agent.OpenWrapped(ctx, info, entry); err == nil {
			return key, id
		}
	}
	d.t.Fatal("the agent opens no entry of the keyring")
	return nil, nil
}

// scanMemory looks for bytes in the memory of a process. elsewhere says where they lie outside
// locked memory.
func scanMemory(t *testing.T, pid int, what []byte) (locked int, elsewhere []string) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var from, to int64
	var head string
	const step = 4 << 20
	buf := make([]byte, step+len(what)-1)
	for line := range strings.Lines(string(maps)) {
		var a, b int64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &a, &b); n == 2 {
			from, to, head = a, b, strings.TrimSpace(line)
			continue
		}
		flags, ok := strings.CutPrefix(line, "VmFlags:")
		if !ok || !strings.Contains(head, " rw") {
			continue
		}
		for at := from; at < to; at += step {
			n, err := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			if err != nil && err != io.EOF && n == 0 {
				break // gone meanwhile
			}
			for b, off := buf[:n], at; ; {
				i := bytes.Index(b, what)
				if i < 0 || off+int64(i) >= at+step {
					break
				}
				if strings.Contains(flags, " lo") {
					locked++
				} else {
					elsewhere = append(elsewhere, fmt.Sprintf("%x in %s", off+int64(i), head))
				}
				off, b = off+int64(i)+1, b[i+1:]
			}
		}
	}
	return locked, elsewhere
}
