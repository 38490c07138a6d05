package fuse

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPOSIXAsUser runs the tables once more with an ordinary user in root's place, in a
// directory of his, on the local disk and on the drive in step. What he may not do is
// refused on both with the same error, and what then follows from that is the same too.
func TestPOSIXAsUser(t *testing.T) {
	needRoot(t)
	for _, x := range []struct {
		pattern, options string
		least            int
	}{{"testdata/posix/*.txt", "allow_other", 1100}, {"testdata/acl/*.txt", "allow_other,acl", 60}} {
		t.Run(x.options, func(t *testing.T) {
			disk, d := local(t), drive(t, x.options)
			n, lines, refused := 0, 0, 0
			for _, c := range loadCases(t, x.pattern) {
				if c.only != "" {
					continue
				}
				n++
				t.Run(c.name, func(t *testing.T) {
					l, r := inStep(t, disk, d, &c)
					lines, refused = lines+l, refused+r
				})
			}
			t.Logf("%d cases of %d lines, %d of them refused", n, lines, refused)
			if n < x.least {
				t.Errorf("%d cases, and there should be %d at least", n, x.least)
			}
		})
	}
}

// inStep does each line of a case on both grounds and wants the same outcome. It returns
// how many lines there were, and how many of them failed.
func inStep(t *testing.T, disk, drive *ground, c *testCase) (lines, refused int) {
	t.Helper()
	const inPlace = "u"
	x, end := disk.begin(t, inPlace)
	defer end()
	y, end := drive.begin(t, inPlace)
	defer end()
	for i := range c.lines {
		l := &c.lines[i]
		if l.only != "" {
			continue
		}
		user := l.user
		if user == "root" {
			user = inPlace
		}
		want, wantErr := x.perform(t, l, user)
		got, err := y.perform(t, l, user)
		lines++
		if wantErr != nil {
			refused++
		}
		if w, g := outcome(want, wantErr), outcome(got, err); w != g && !(slices.Contains(l.errs, w) && slices.Contains(l.errs, g)) {
			t.Fatalf("%s: %s: as %s: the local disk says %q (%v), the drive %q (%v)", l.at, l.text, user, w, wantErr, g, err)
		}
	}
	return lines, refused
}

// outcome is what both sides have to agree in.
func outcome(got string, err error) string {
	var e syscall.Errno
	switch {
	case err == nil:
		return "= " + got
	case errors.As(err, &e):
		return unix.ErrnoName(e)
	}
	return "the check fails"
}
