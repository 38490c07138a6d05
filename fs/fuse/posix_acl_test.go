package fuse

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestACL runs the tables about POSIX ACLs on a mount with the option acl.
func TestACL(t *testing.T) { runTables(t, "testdata/acl/*.txt", "allow_other,acl", 60) }

// The other tables hold with the option acl too.
func TestPOSIXWithACL(t *testing.T) {
	if testing.Short() {
		t.Skip("the same tables once more: not with -short")
	}
	needRoot(t)
	cases := loadCases(t, "testdata/posix/*.txt")
	g := drive(t, "allow_other,acl")
	for i := range cases {
		if c := &cases[i]; !strings.Contains(c.name, "without the option acl") && c.only != "ext4" {
			t.Run(c.name, func(t *testing.T) { g.try(t, c) })
		}
	}
}

func aclOperations() map[string]operation {
	return map[string]operation{
		"setacl": func(r *run, a []string) (string, error) {
			b, err := encodeACL(a[2])
			if err != nil {
				return "", err
			}
			return "", unix.Setxattr(r.path(a[0]), "system.posix_acl_"+a[1], b, 0)
		},
		"setaclraw": func(r *run, a []string) (string, error) {
			b, err := hex.DecodeString(a[2])
			if err != nil {
				return "", err
			}
			return "", unix.Setxattr(r.path(a[0]), "system.posix_acl_"+a[1], b, 0)
		},
		"getacl": func(r *run, a []string) (string, error) {
			b := make([]byte, 4096)
			n, err := unix.Getxattr(r.path(a[0]), "system.posix_acl_"+a[1], b)
			if err != nil {
				return "", err
			}
			return decodeACL(b[:n]), nil
		},
		"rmacl": func(r *run, a []string) (string, error) {
			return "", unix.Removexattr(r.path(a[0]), "system.posix_acl_"+a[1])
		},
	}
}

var aclTags = []struct {
	tag  uint16
	name string
}{{1, "u:"}, {2, "u"}, {4, "g:"}, {8, "g"}, {16, "m:"}, {32, "o:"}}

// encodeACL encodes u::rwx,u:a:r-x,g::r--,m::rwx,o::---.
func encodeACL(spec string) ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range strings.Split(spec, ",") {
		f := strings.Split(e, ":")
		if len(f) != 3 {
			return nil, fmt.Errorf("no entry: %q", e)
		}
		name, who := f[0], uint32(1<<32-1)
		if f[1] == "" {
			name += ":"
		} else {
			who = uint32(id(f[1]))
		}
		perm := uint16(0)
		for i, c := range "rwx" {
			if strings.ContainsRune(f[2], c) {
				perm |= 4 >> i
			}
		}
		for _, t := range aclTags {
			if t.name == name {
				b = binary.LittleEndian.AppendUint16(b, t.tag)
				b = binary.LittleEndian.AppendUint16(b, perm)
				b = binary.LittleEndian.AppendUint32(b, who)
			}
		}
	}
	return b, nil
}

func decodeACL(b []byte) string {
	var out []string
	for b = b[min(4, len(b)):]; len(b) >= 8; b = b[8:] {
		tag, perm, who := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		s := "?"
		for _, t := range aclTags {
			if t.tag == tag {
				s = t.name
			}
		}
		if !strings.HasSuffix(s, ":") {
			name := fmt.Sprint(who)
			for _, u := range []string{"a", "b", "c", "d"} {
				if uint32(users()[u].uid) == who {
					name = u
				}
			}
			s += ":" + name
		}
		s += ":"
		for i, c := range "rwx" {
			if perm&(4>>i) != 0 {
				s += string(c)
			} else {
				s += "-"
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

// Debian's setfacl and getfacl see on the drive what they see on the local disk.
func TestFaclPrograms(t *testing.T) {
	needRoot(t)
	for _, p := range []string{"setfacl", "getfacl", "cp"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("needs the package acl: ", err)
		}
	}
	script := `set -e
umask 022
mkdir d; echo text > d/f; chmod 640 d/f
setfacl -m u:60001:rw,g:60002:r d/f
setfacl -d -m u:60001:rwx,g:60002:rx,m::rwx d
setfacl -m u:60002:x d
mkdir d/sub; touch d/sub/new; mkfifo d/sub/fifo
cp -p d/f d/copy
chmod g-w d/copy
setfacl -x g:60002 d/f
setfacl -m m::r d/sub/new
setfacl -b d/sub/fifo
(cd d; tar cf - --acls --xattrs f sub) | (mkdir e; cd e; tar xf - --acls --xattrs)
find d e | LC_ALL=C sort | xargs getfacl -n
LC_ALL=C ls -lnR d e | awk '{print $1, $3, $4, $NF}' | grep -v total
setfacl -bR d
find d | LC_ALL=C sort | xargs getfacl -n
setfacl -m u:60001:bad d/f 2>/dev/null || echo refused
`
	run := func(dir string) string {
		work := filepath.Join(dir, "work")
		if err := os.Mkdir(work, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("bash", "-c", script)
		cmd.Dir = work
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	g := drive(t, "allow_other,acl")
	var got string
	within(t, time.Minute, "the programs", func() error { got = run(g.dir); return nil })
	if want := run(local(t).dir); got != want {
		t.Errorf("on the drive:\n%s\non the local disk:\n%s", got, want)
	}
}
