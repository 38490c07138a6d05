package cli

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// passSource says where the passphrase comes from: a file, an open descriptor, systemd's
// credentials, or a prompt. Never the arguments or the environment, which others can see.
type passSource struct {
	file string
	fd   int
}

func (p *passSource) flags(f *flag.FlagSet) {
	f.StringVar(&p.file, "passfile", "", "read the passphrase from the first line of `FILE`")
	f.IntVar(&p.fd, "passfd", -1, "read the passphrase from descriptor `N`")
}

const passMax = 1 << 15 // bytes; less than a pipe holds

// get returns the passphrase. With again, a prompt asks twice.
func (p *passSource) get(e *env, prompt string, again bool) ([]byte, error) {
	switch {
	case p.file != "":
		return passFromFile(p.file)
	case p.fd >= 0:
		f := os.NewFile(uintptr(p.fd), "passfd")
		if f == nil {
			return nil, fmt.Errorf("%w: descriptor %d is not open", errUsage, p.fd)
		}
		defer f.Close()
		return firstLine(f, fmt.Sprint("descriptor ", p.fd))
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		if b, err := passFromFile(filepath.Join(dir, "passphrase")); !errors.Is(err, os.ErrNotExist) {
			return b, err
		}
	}
	if !term.IsTerminal(int(e.in.Fd())) {
		return nil, fmt.Errorf("%w: there is no terminal to ask for the passphrase: use --passfile or --passfd", errUsage)
	}
	if again {
		return e.askTwice(prompt)
	}
	return e.askSecret(prompt + ": ")
}

// passFromFile reads a passphrase from a file, which must not be there for everybody to read.
func passFromFile(path string) ([]byte, error) {
	b, err := safefile.ReadSecret(path, passMax)
	if err != nil {
		return nil, fmt.Errorf("passphrase file: %w", err)
	}
	defer clear(b)
	line, err := firstLine(bytes.NewReader(b), path)
	return line, err
}

// askTwice asks for a new passphrase until it is the same twice.
func (e *env) askTwice(prompt string) ([]byte, error) {
	for {
		b, err := e.askSecret(prompt + ": ")
		if err != nil {
			return nil, err
		}
		second, err := e.askSecret("Once more: ")
		if err != nil {
			return nil, err
		}
		if same := bytes.Equal(b, second); same && len(b) > 0 {
			clear(second)
			return b, nil
		}
		fmt.Fprintln(e.err, "That was empty, or not the same twice.")
	}
}

// given tells whether there is a passphrase without asking.
func (p *passSource) given() bool {
	if p.file != "" || p.fd >= 0 {
		return true
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "passphrase"))
	return err == nil
}

// undoOnSignal runs undo if a signal ends the program before the returned function is
// called: a terminal must not be left without echo, nor with a phrase on it.
func undoOnSignal(undo func()) (done func()) {
	c, end := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		select {
		case sig := <-c:
			undo()
			signal.Reset(sig)
			if s, ok := sig.(syscall.Signal); ok {
				_ = syscall.Kill(os.Getpid(), s) // to die of it, as if never caught
			}
		case <-end:
		}
	}()
	return func() { signal.Stop(c); close(end) }
}

func (e *env) askSecret(prompt string) ([]byte, error) {
	fmt.Fprint(e.err, prompt)
	fd := int(e.in.Fd())
	if state, err := term.GetState(fd); err == nil {
		defer undoOnSignal(func() { _ = term.Restore(fd, state) })()
	}
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(e.err)
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	return b, nil
}

func firstLine(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, passMax))
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase from %s: %w", name, err)
	}
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		clear(b[i:])
		b = b[:i]
	}
	b = bytes.TrimSuffix(b, []byte("\r"))
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: %s holds no passphrase", errUsage, name)
	}
	return b, nil
}

// ask asks a question whose answer is a line.
func (e *env) ask(prompt string) (string, error) {
	fmt.Fprint(e.err, prompt)
	line, err := bufio.NewReader(e.in).ReadString('\n')
	if err != nil && !(errors.Is(err, io.EOF) && line != "") {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// terminal tells whether a person is there to ask and to show things to.
func (e *env) terminal() bool {
	_, ok := e.out.terminal()
	return ok && term.IsTerminal(int(e.in.Fd()))
}
