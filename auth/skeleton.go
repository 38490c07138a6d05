package auth

import (
	"context"
	"errors"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

var errUnfinished = errors.New("not finished yet")

// HardenProcess keeps secrets of this process out of core dumps and away from other
// processes of the same user: no core file, not dumpable, no ptrace by its own user.
// Call it first thing in every process that reads a passphrase or holds a session. It
// does not survive execve.
func HardenProcess() error { return errUnfinished }

// Phrase is a recovery phrase of 24 words. Its String redacts; only Words and Text show it.
type Phrase struct{}

// NewPhrase draws a fresh phrase. Wipe it after use.
func NewPhrase() (*Phrase, error) { return nil, errUnfinished }

// ParsePhrase reads 24 words, in any case, with any white space between them. ErrPhrase
// names the position of the first wrong word. Wipe the phrase after use.
func ParsePhrase(text []byte) (*Phrase, error) { return nil, errUnfinished }

// Words are the 24 words, to be shown to the owner and nobody else.
func (p *Phrase) Words() []string { return nil }

// Wipe overwrites the phrase.
func (p *Phrase) Wipe() {}

// KDF are the parameters of Argon2id for a passphrase. The zero value stands for the
// defaults: 3 passes, 256 MiB, 4 lanes. Accepted are 1 to 16 passes, 64 MiB to 1 GiB,
// 1 to 16 lanes.
type KDF struct {
	Time    uint32 // passes
	Memory  uint32 // KiB
	Threads uint8  // lanes
}

// InitConfig says what identity to make.
type InitConfig struct {
	// Dir is the keystore directory; it is made with mode 0700 where missing.
	Dir string
	// Passphrase seals the keystore. It is neither kept nor changed; it may not be empty.
	Passphrase []byte
	// Method of the DID: "key" (also when empty).
	Method string
	// Phrase restores the identity of an earlier phrase; nil makes a new one.
	Phrase *Phrase
	// DeviceName is a name for people, at most 64 bytes; the host's name is a good one.
	DeviceName string
	// KDF of the passphrase's slot; the zero value is the default.
	KDF KDF
	// Resolver of DIDs; nil is DefaultResolver().
	Resolver *did.Resolver
}

// Identity is a new identity, as Init made it.
type Identity struct {
	DID    string
	Device Device
	// Phrase is what the owner must write down. Wipe it after use.
	Phrase *Phrase
	// Restored tells that the phrase was given, so that it need not be confirmed.
	Restored bool
}

// Device is one device of an identity: a signing key that the DID document lists, and
// the key that vault keys are wrapped for. An identity of did:key has exactly one.
type Device struct {
	ID        string // short name in commit paths: lower-case letters and digits
	Name      string // for people
	KeyID     string // exact id of the signing key in the DID document
	Signing   []byte // Ed25519 public key
	Agreement []byte // HPKE public key (MLKEM768-X25519)
}

// Init makes an identity and its keystore. ErrExist when Dir holds one.
func Init(ctx context.Context, cfg InitConfig) (*Identity, error) { return nil, errUnfinished }

// DefaultResolver knows did:key (and, later, did:webvh).
func DefaultResolver() *did.Resolver { return nil }

// Summary is what the keystore tells without its passphrase; nothing of it is secret,
// and nothing of it is verified before Login.
type Summary struct {
	DID           string
	Device        string // Device.ID
	PhrasePending bool   // the recovery phrase was not confirmed yet
	KDF           KDF    // of the first slot
}

// Inspect reads the keystore's public part. ErrNoIdentity, ErrKeystore.
func Inspect(dir string) (Summary, error) { return Summary{}, errUnfinished }

// RecoveryPhrase returns the phrase while it is not confirmed; then ErrConfirmed.
func RecoveryPhrase(ctx context.Context, dir string, passphrase []byte) (*Phrase, error) {
	return nil, errUnfinished
}

// ConfirmPhrase records that the owner has written the phrase down and removes it from
// the keystore. Confirming again does nothing.
func ConfirmPhrase(ctx context.Context, dir string, passphrase []byte) error { return errUnfinished }

// ChangePassphrase replaces the slot that current opens by one for next.
func ChangePassphrase(ctx context.Context, dir string, current, next []byte, kdf KDF) error {
	return errUnfinished
}

// Session is a login of one device. Its methods may be called from several goroutines.
type Session struct{}

// Login unlocks the keystore in dir, resolves the identity's own DID, checks that this
// device stands in the document and that the document is not older than the newest one
// seen, answers a fresh challenge, and opens a session. Close it.
//
// ErrNoIdentity, ErrPassphrase, ErrKeystore, ErrRefused, ErrRollback, ErrUnavailable.
func Login(ctx context.Context, dir string, passphrase []byte) (*Session, error) {
	return nil, errUnfinished
}

// LoginWith is Login with a resolver of the caller's.
func LoginWith(ctx context.Context, dir string, passphrase []byte, r *did.Resolver) (*Session, error) {
	return nil, errUnfinished
}

// DID, Device, Sign, Verify, OpenWrapped, Recipients and Log are fs.Identity.
func (s *Session) DID() string    { return "" }
func (s *Session) Device() string { return "" }
func (s *Session) Sign(ctx context.Context, msg []byte) ([]byte, error) {
	return nil, errUnfinished
}
func (s *Session) Verify(ctx context.Context, device string, msg, sig []byte) error {
	return errUnfinished
}
func (s *Session) OpenWrapped(ctx context.Context, info, sealed []byte) ([]byte, error) {
	return nil, errUnfinished
}
func (s *Session) Recipients(ctx context.Context) ([][]byte, error) { return nil, errUnfinished }
func (s *Session) Log(ctx context.Context) (log []byte, version string, err error) {
	return nil, "", errUnfinished
}

// PhrasePending tells whether the recovery phrase still waits for its confirmation.
func (s *Session) PhrasePending() bool { return false }

// WhoAmI describes the session.
func (s *Session) WhoAmI(ctx context.Context) (WhoAmI, error) { return WhoAmI{}, errUnfinished }

// Close ends the session and wipes its keys.
func (s *Session) Close() error { return errUnfinished }

// WhoAmI describes a session; nothing of it is secret.
type WhoAmI struct {
	DID           string    `json:"did"`
	Device        string    `json:"device"`
	DeviceName    string    `json:"device_name"`
	KeyID         string    `json:"key_id"`
	Version       string    `json:"version"` // of the DID document
	PhrasePending bool      `json:"phrase_pending"`
	Since         time.Time `json:"since"`
	PID           int       `json:"pid"`     // of the process that holds the keys
	Holders       []string  `json:"holders"` // who holds the session now
}

// Agent serves a session to processes of the same user on a unix socket.
type Agent struct{}

// Listen takes the socket at path (0600, in a directory of mode 0700 that is made where
// missing). A socket that a killed agent left is replaced; a living agent gives ErrBusy.
// The agent owns the session from then on.
func Listen(path string, s *Session) (*Agent, error) { return nil, errUnfinished }

// Serve answers until ctx ends or somebody logs out, then closes the session and removes
// the socket. It returns nil after a logout and after the end of ctx.
func (a *Agent) Serve(ctx context.Context) error { return errUnfinished }

// ServeAgent is Listen and Serve.
func ServeAgent(ctx context.Context, path string, s *Session) error { return errUnfinished }

// Client asks an agent. It has the methods of fs.Identity. Each call dials anew and has
// the deadline of its ctx, or 30 seconds. ErrNoSession when no agent answers.
type Client struct{}

// Dial finds the agent at path and asks it who is logged in.
func Dial(ctx context.Context, path string) (*Client, error) { return nil, errUnfinished }

// DID, Device, Sign, Verify, OpenWrapped, Recipients and Log are fs.Identity.
func (c *Client) DID() string    { return "" }
func (c *Client) Device() string { return "" }
func (c *Client) Sign(ctx context.Context, msg []byte) ([]byte, error) {
	return nil, errUnfinished
}
func (c *Client) Verify(ctx context.Context, device string, msg, sig []byte) error {
	return errUnfinished
}
func (c *Client) OpenWrapped(ctx context.Context, info, sealed []byte) ([]byte, error) {
	return nil, errUnfinished
}
func (c *Client) Recipients(ctx context.Context) ([][]byte, error) { return nil, errUnfinished }
func (c *Client) Log(ctx context.Context) (log []byte, version string, err error) {
	return nil, "", errUnfinished
}

// WhoAmI describes the agent's session.
func (c *Client) WhoAmI(ctx context.Context) (WhoAmI, error) { return WhoAmI{}, errUnfinished }

// Hold keeps the session from being logged out until Release, or until this process
// ends. who is shown to a person who tries, such as "mount /home/u/IpfsCloud".
func (c *Client) Hold(ctx context.Context, who string) (*Hold, error) { return nil, errUnfinished }

// Logout ends the session and its agent. ErrHeld while somebody holds it.
func (c *Client) Logout(ctx context.Context) error { return errUnfinished }

// Hold is a claim on a session.
type Hold struct{}

// Release gives the claim back.
func (h *Hold) Release() error { return errUnfinished }

// Lost is closed when the agent is gone or Release was called.
func (h *Hold) Lost() <-chan struct{} { return nil }
