package auth

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/claim"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// The agent's protocol: the client sends a request and waits for its response, as often
// as it likes. Each is four bytes of length, big-endian, and as many bytes of JSON.
// There are requests for operations only; none asks for a private key.

const (
	messageMax      = 4 << 20 // bytes
	requestDeadline = 30 * time.Second
	sunPathMax      = 107 // bytes of a unix socket's path
)

type request struct {
	Op     string `json:"op"`
	DID    string `json:"did,omitempty"` // who the client thinks is logged in
	Device string `json:"device,omitempty"`
	Data   []byte `json:"data,omitempty"`  // message, or ciphertext
	Extra  []byte `json:"extra,omitempty"` // signature, or info of HPKE
	Who    string `json:"who,omitempty"`
}

// The operations.
const (
	opWhoAmI       = "whoami"
	opSign         = "sign"
	opVerify       = "verify"
	opOpen         = "open"
	opRecipients   = "recipients"
	opLog          = "log"
	opTakeLog      = "take-log"
	opDevices      = "devices"
	opJudge        = "judge-commit"
	opMayCommit    = "may-commit"
	opNotes        = "notes"
	opTakeNotes    = "take-notes"
	opSignClaim    = "sign-claim"
	opClaims       = "claims"
	opKeepClaim    = "keep-claim"
	opDropClaim    = "drop-claim"
	opAuthenticate = "authenticate"
	opPublishing   = "publishing-keys"
	opSignName     = "sign-name"
	opHold         = "hold" // until the connection ends
	opLogout       = "logout"
)

type response struct {
	Error   string   `json:"error,omitempty"`   // a code of errorCodes, or "failed"
	Message string   `json:"message,omitempty"` // for people
	Data    []byte   `json:"data,omitempty"`
	List    [][]byte `json:"list,omitempty"`
	Version string   `json:"version,omitempty"`
	WhoAmI  *WhoAmI  `json:"whoami,omitempty"`
}

// codedError carries a meaning over the socket.
type codedError struct {
	code string
	err  error
}

func errorCodes() []codedError {
	return []codedError{
		{"purpose", ErrPurpose},
		{"signature", ErrSignature},
		{"not-recipient", ErrNotRecipient},
		{"held", ErrHeld},
		{"busy", ErrBusy},
		{"closed", ErrClosed},
		{"no-session", ErrNoSession},
		{"device", ErrDevice},
		{"deactivated", ErrDeactivated},
		{"scope", ErrScope},
		{"refused", ErrRefused},
		{"rollback", ErrRollback},
		{"unavailable", ErrUnavailable},
		{"invalid", ErrInvalid},
		{"claim", claim.ErrInvalid},
		{"no-name", ErrNoName},
		{"deadline", context.DeadlineExceeded},
		{"canceled", context.Canceled},
	}
}

func failure(err error) response {
	r := response{Error: "failed", Message: err.Error()}
	for _, c := range errorCodes() {
		if errors.Is(err, c.err) {
			r.Error = c.code
			break
		}
	}
	return r
}

// err gives the response's error back its meaning.
func (r *response) err() error {
	if r.Error == "" {
		return nil
	}
	for _, c := range errorCodes() {
		if c.code == r.Error {
			return remoteError{r.Message, c.err}
		}
	}
	return remoteError{r.Message, errors.New(r.Error)}
}

// remoteError is an error of the agent: its text is complete, its meaning is unwrapped.
type remoteError struct {
	message string
	meaning error
}

func (e remoteError) Error() string { return e.message }
func (e remoteError) Unwrap() error { return e.meaning }

func writeMessage(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	if len(body) > messageMax {
		return fmt.Errorf("message of %d bytes, at most %d: %w", len(body), messageMax, ErrInvalid)
	}
	message := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(message, uint32(len(body)))
	message = append(message, body...)
	clear(body) // it may hold an unwrapped key
	defer clear(message)
	if _, err := w.Write(message); err != nil {
		return fmt.Errorf("sending a message: %w", err)
	}
	return nil
}

func readMessage(r io.Reader, v any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return fmt.Errorf("receiving a message: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > messageMax {
		return fmt.Errorf("message of %d bytes, at most %d: %w", n, messageMax, ErrInvalid)
	}
	body := make([]byte, n)
	defer clear(body)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("receiving a message: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("message is not as expected: %w", ErrInvalid)
	}
	return nil
}

// withShortPath calls f with a path of the socket that fits into a socket address; a
// longer one goes through an open descriptor of its directory.
func withShortPath(path string, f func(string) error) error {
	if len(path) <= sunPathMax {
		return f(path)
	}
	dir, err := safefile.OpenDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

func dialSocket(ctx context.Context, path string) (conn net.Conn, err error) {
	err = withShortPath(path, func(p string) error {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", p)
		return err
	})
	return conn, err
}
