package cli

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"rsc.io/qr"

	"github.com/cluster-labs/ipfscloud/daemon/printable"
)

// onTerminal starts the program with a terminal of its own.
func (d *drive) onTerminal(t *testing.T, args ...string) (*terminal, *exec.Cmd) {
	t.Helper()
	master, slave := openTerminal(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*longest)
	t.Cleanup(cancel)
	cmd := d.command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	return &terminal{t: t, f: master}, cmd
}

// paste enters a text line by line.
func (x *terminal) paste(text string) {
	x.t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		x.enter(line)
	}
}

// Two people at two terminals, or one who walks: request and answer are pasted, the codes
// are typed.
func TestDeviceJoinsOnTerminals(t *testing.T) {
	t.Parallel()
	a, b := newDrive(t), newHome(t)
	a.sh("echo hello > file; sync -f file")
	x, add := b.onTerminal(t, "device", "add", "--name", "the \x1b[2J second")
	x.expect(`Passphrase of this device: `)
	x.enter("a good passphrase")
	x.expect(`Once more: `)
	x.enter("a good passphrase")
	request, _ := x.expect(`(?s)-----BEGIN IPFSCLOUD DEVICE REQUEST-----.*-----END IPFSCLOUD DEVICE REQUEST-----`)
	code, picture := x.expect(`Code of this device: ([A-Z2-7]{4}-[A-Z2-7]{4})`)
	if n := strings.Count(picture, "\x1b[30;107m"); n < 15 {
		t.Errorf("a QR code of %d lines: %q", n, picture)
	}
	x.expect(`Ctrl-D`)

	y, approve := a.onTerminal(t, "device", "approve", "--read-only", "--passfile", a.path("pass"))
	y.expect(`Paste the request`)
	y.paste(strings.ReplaceAll(request[0], "\r\n", "\n"))
	if _, shown := y.expect(`Code that it shows[^:]*: `); !strings.Contains(shown, `asks to join, to read`) || strings.Contains(shown, "\x1b[2J") {
		t.Errorf("before the question: %q", shown)
	}
	y.enter(strings.ToLower(code[1]))
	answer, _ := y.expect(`(?s)-----BEGIN IPFSCLOUD DEVICE ANSWER-----.*-----END IPFSCLOUD DEVICE ANSWER-----`)
	theirs, _ := y.expect(`Code of the answer: (\S+)`)
	if err := approve.Wait(); err != nil {
		t.Fatalf("approve: %v", err)
	}

	x.paste(strings.ReplaceAll(answer[0], "\r\n", "\n"))
	x.expect(`Code that the other device shows with the answer: `)
	x.enter(theirs[1])
	x.expect(`This is device \w+ of the identity now`)
	x.expect(`did:webvh:\S+`)
	if err := add.Wait(); err != nil {
		t.Fatalf("add: %v", err)
	}
	if l := a.ok("device", "list"); strings.Contains(l, "\x1b") || !strings.Contains(l, "read-only") || !strings.Contains(l, "second") {
		t.Errorf("%q", l)
	}
}

// What is drawn is the code, module for module.
func TestDrawQR(t *testing.T) {
	const text = "IPFSCLOUD:DEVICE:ZPJTJP4HLJPETCVG4OVZZU3OLPRT4RGAV3BDGDW5FJLTXXH3CUXA"
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := drawQR(&output{printable.NewWriter(&b), nil}, text); err != nil {
		t.Fatal(err)
	}
	plain := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(b.String(), "")
	lines := strings.Split(strings.TrimSuffix(plain, "\n"), "\n")
	const margin = 2
	if n := (code.Size + 2*margin + 1) / 2; len(lines) != n || n > 24 {
		t.Errorf("%d lines for %d modules", len(lines), code.Size)
	}
	for i, line := range lines {
		runes := []rune(line)
		if len(runes) != code.Size+2*margin {
			t.Fatalf("line %d has %d columns", i, len(runes))
		}
		for j, r := range runes {
			up, down := r == '█' || r == '▀', r == '█' || r == '▄'
			if x, y := j-margin, 2*i-margin; up != code.Black(x, y) || down != code.Black(x, y+1) {
				t.Fatalf("line %d, column %d: %q", i, j, r)
			}
		}
	}
}
