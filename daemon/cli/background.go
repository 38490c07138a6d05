package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cluster-labs/ipfscloud/daemon"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// Descriptors of a background process.
const (
	readyFD  = 3 // where it tells how its start went
	secretFD = 4 // where it is given a passphrase
)

// task is a background process to start: this program again, in a session of its own.
type task struct {
	args   []string
	secret []byte // given through a pipe; nil for none
	log    string // file for its standard error, such as the traces of a crash; "" for none
	wait   time.Duration
	stays  bool // in this process group, until it is ready and makes one itself
}

// answer is what a background process tells the one that started it.
type answer struct {
	DID   string `json:"did,omitempty"`
	Error string `json:"error,omitempty"`
	Code  int    `json:"code,omitempty"`
}

// errNoAnswer: a background process has died.
var errNoAnswer = errors.New("the background process ended before it was ready")

// childError is a failure of a background process, which chose its exit code and words.
type childError struct {
	text string
	code int
}

func (e childError) Error() string { return e.text }

// background starts a task and waits for its answer. If it gives none in time, it is
// ended; what it did so far is safe, as after any kill.
func background(ctx context.Context, t task) (answer, error) {
	cmd := exec.Command("/proc/self/exe", t.args...) // also when the file was replaced meanwhile
	cmd.Args[0] = "ipfscloud"
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: !t.stays}
	if t.log != "" {
		f, err := safefile.OpenFile(t.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return answer{}, fmt.Errorf("log: %w", err)
		}
		defer f.Close()
		cmd.Stderr = f
	}
	ready, theirReady, err := os.Pipe()
	if err != nil {
		return answer{}, err
	}
	defer ready.Close()
	defer theirReady.Close()
	cmd.ExtraFiles = []*os.File{readyFD - 3: theirReady}
	if t.secret != nil {
		secret, err := secretPipe(t.secret)
		if err != nil {
			return answer{}, err
		}
		defer secret.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, secret) // secretFD
	}
	if err := cmd.Start(); err != nil {
		return answer{}, fmt.Errorf("starting the background process: %w", err)
	}
	theirReady.Close() // so that its end is the end of the answer
	// It lives on as a process of its own; but if it ends before this one, it is reaped.
	go func() { _ = cmd.Wait() }()
	a, err := awaitAnswer(ctx, ready, t.wait)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = cmd.Process.Kill()
		if ctx.Err() != nil {
			return a, ctx.Err()
		}
		return a, fmt.Errorf("the background process was not ready after %v: %w", t.wait, daemon.ErrUnavailable)
	}
	if errors.Is(err, errNoAnswer) && t.log != "" {
		err = fmt.Errorf("%w; see %s", err, t.log)
	}
	return a, err
}

// secretPipe returns the reading end of a pipe that holds a line. A pipe takes that much
// without a reader, and no file or argument ever has it.
func secretPipe(secret []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	line := append(bytes.Clone(secret), '\n')
	defer clear(line)
	_, err = w.Write(line)
	if err = errors.Join(err, w.Close()); err != nil {
		r.Close()
		return nil, fmt.Errorf("handing over the passphrase: %w", err)
	}
	return r, nil
}

func awaitAnswer(ctx context.Context, r *os.File, wait time.Duration) (a answer, err error) {
	if err := r.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return a, err
	}
	defer context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })()
	b, err := io.ReadAll(io.LimitReader(r, 1<<16))
	if err != nil {
		return a, fmt.Errorf("waiting for the background process: %w", err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, errNoAnswer
	}
	if a.Code != ExitOK {
		return a, childError{a.Error, a.Code}
	}
	return a, nil
}

// ownSession makes a session for a background process that has none yet.
func ownSession() error {
	if _, err := unix.Setsid(); err != nil && !errors.Is(err, unix.EPERM) { // that it has one
		return fmt.Errorf("a session of its own: %w", err)
	}
	return nil
}

// inherited is a descriptor from the process that started this one, and not for those
// that this one starts.
func inherited(fd int) *os.File {
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "inherited")
}

// abandoned tells whether nobody reads what f would be told: who started this process has
// been interrupted, and does not want it any more.
func abandoned(f *os.File) bool {
	p := []unix.PollFd{{Fd: int32(f.Fd())}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&unix.POLLERR != 0
}

// errAbandoned ends a background process that nobody waits for.
var errAbandoned = errors.New("who started this process has gone")

// tell sends the answer and closes the descriptor.
func tell(f *os.File, a answer) error {
	return errors.Join(json.NewEncoder(f).Encode(a), f.Close())
}

func failed(err error) answer {
	code, _ := exitCode(err)
	return answer{Error: explain(err), Code: code}
}

// oneLine is what an error says; several that were joined stand behind each other.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// explain says in one line what failed, and what to do.
func explain(err error) string {
	line := strings.TrimPrefix(oneLine(err), errUsage.Error()+": ")
	if _, advice := exitCode(err); advice != "" {
		line += " (" + advice + ")"
	}
	return line
}
