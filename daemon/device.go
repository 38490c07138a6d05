package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// Devices is what the commands on devices work on.
type Devices struct {
	Home       Home
	Config     Config
	Passphrase []byte
	Log        *slog.Logger
}

// handedOver is what an answer says of the vault, besides what the identity needs.
type handedOver struct {
	Head *fs.Handover `json:"head"`
	// IPFS and Egress are those of the device that has approved, where another machine can
	// use them too.
	IPFS   string        `json:"ipfs,omitempty"`
	Egress *egressAnswer `json:"egress,omitempty"`
}

// egressAnswer has the texts of the files too, which the other machine does not have.
type egressAnswer struct {
	URLs []string `json:"urls,omitempty"`
	CA   []byte   `json:"ca,omitempty"`
	Auth []byte   `json:"auth,omitempty"`
	// Peers are what a device that only reads gets in place of all that: addresses to fetch
	// blocks from. The API has one kind of password, and it lets anybody drop every copy.
	Peers []string `json:"peers,omitempty"`
}

// Approval is what an approval came to.
type Approval struct {
	Answer  []byte // text for the new device; it alone can read it
	Code    string // of the answer
	Version string // of the DID document
	Commit  fs.HeadInfo
}

// Approve lets a device in: into the DID document, among those that can open the vault, and
// hands over where both stand. The caller has compared the code of the request. Done again,
// it answers again. A short answer is for a device that uses the same Egress: it leaves out
// what stands in the newest commit. A device that only reads is not given access to the
// Egress's API unless the owner says so with egressToo.
func (d Devices) Approve(ctx context.Context, r *auth.Request, g auth.Grant, short, egressToo bool) (*Approval, error) {
	vault, err := readVault(d.Home.vaultFile())
	if err != nil {
		return nil, err
	}
	if vault == "" {
		return nil, ErrNoVault
	}
	if err := d.writes(vault); err != nil { // before the document is changed
		return nil, err
	}
	if short {
		if _, err := Connect(ctx, d.Home); err != nil {
			return nil, fmt.Errorf("the new device gets the newest commit from Egress, and only a mounted drive brings it there: %w", err)
		}
	}
	if err := RefreshLog(ctx, d.Home, d.Config, d.Log); err != nil {
		return nil, err
	}
	done, err := auth.Approve(ctx, d.Home.Keystore, d.Passphrase, r, g)
	if err != nil {
		return nil, err
	}
	out := &Approval{Version: done.Document.Version.ID}
	out.Commit, err = vaultChange{home: d.Home, config: d.Config, passphrase: d.Passphrase, notes: done.Notes, log: d.Log}.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("the device is in the DID document, and cannot open the drive yet; approve it again: %w", err)
	}
	if short {
		if err := d.inEgress(ctx); err != nil {
			return nil, err
		}
	}
	over := handedOver{}
	if over.Head, err = fs.HandOut(d.Home.State, vault); err != nil {
		return nil, err
	}
	a := auth.Answer{DID: done.Document.ID, Version: out.Version}
	if short {
		over.Head = over.Head.Short()
	} else if over.IPFS, over.Egress, err = d.places(ctx, g, egressToo); err != nil {
		return nil, err
	} else {
		a.Log, a.Notes = done.Log, done.Notes
	}
	if a.Vault, err = json.Marshal(over); err != nil {
		return nil, err
	}
	out.Answer, err = r.Seal(a)
	if err != nil {
		return nil, err
	}
	out.Code, err = auth.AnswerCode(out.Answer)
	return out, err
}

// writes wants this device to be the one that writes the drive, as far as it knows.
func (d Devices) writes(vault string) error {
	sum, err := auth.Inspect(d.Home.Keystore)
	if err != nil {
		return err
	}
	name, _, err := fs.LastAccepted(d.Home.State, vault)
	if err != nil || name.Sequence == 0 || name.Device == sum.Device {
		return err
	}
	return fmt.Errorf("%w: %s made commit %d", ErrOtherWriter, name.Device, name.Sequence)
}

// inEgress returns when the newest commit is at another machine.
func (d Devices) inEgress(ctx context.Context) error {
	c, err := Connect(ctx, d.Home)
	if err == nil {
		err = c.Sync(ctx, "egress:1")
	}
	if err != nil {
		return fmt.Errorf("the newest commit is not in Egress yet; approve again: %w", err)
	}
	return nil
}

// places are the node and the Egress that another machine with these rights can use too.
// A device with an end date gets what a writer needs: it cannot pin what it commits without
// the API.
func (d Devices) places(ctx context.Context, g auth.Grant, egressToo bool) (node string, e *egressAnswer, err error) {
	reader := g.Scope == auth.ScopeRead && !egressToo
	if u := d.Config.IPFS; u != "" && u[0] != '/' && !reader { // whoever reaches a node's RPC can drop its pins
		node = u
	}
	used, err := d.Config.egressInUse(d.Home)
	if err != nil || used.none() || used.Local {
		return node, nil, err
	}
	if reader {
		e, err = d.readable(ctx)
		return "", e, err
	}
	e = &egressAnswer{URLs: used.URLs}
	for _, f := range []struct {
		path string
		to   *[]byte
	}{{used.CAFile, &e.CA}, {used.AuthFile, &e.Auth}} {
		if f.path == "" {
			continue
		}
		if *f.to, err = safefile.ReadNamed(f.path, namedMax); err != nil {
			return "", nil, fmt.Errorf("%w: the Egress to hand over: %w", ErrConfig, err)
		}
	}
	return node, e, nil
}

// readable are the addresses of the Egress's nodes. The new device can do without them for
// now if Egress does not answer; the drive's data cannot be fetched from there then.
func (d Devices) readable(ctx context.Context) (*egressAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, askPeers)
	defer cancel()
	client, err := egressClient(d.Home, d.Config, d.Log)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	peers, err := client.Peers(ctx)
	if err != nil {
		return nil, fmt.Errorf("the addresses that the new device is to read from: %w; approve it again", egressError(err))
	}
	e := &egressAnswer{}
	for _, p := range peers {
		e.Peers = append(e.Peers, p.IPFSAddrs...)
	}
	if len(e.Peers) == 0 {
		return nil, nil
	}
	return e, nil
}

// Joined is what this device has become.
type Joined struct {
	DID, Device, Version string
	Vault                string
	Sequence             uint64
	Egress               []string // URLs, if they are in use from now on
	IPFS                 string   // node of the device that has approved; a hint
	// ReadsFrom is the number of addresses to read from, of a device that has no access to
	// the Egress's API: it learns of newer commits from newer answers.
	ReadsFrom int
	Again     bool // it was a device already, and has taken a newer answer
}

// Join takes the answer of the device that has approved. The caller has compared its code.
func (d Devices) Join(ctx context.Context, answer []byte) (*Joined, error) {
	if err := d.Home.Make(); err != nil {
		return nil, err
	}
	lock, err := takeLock(d.Home.lockFile())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if !auth.Waits(d.Home.Keystore) {
		return d.renew(ctx, answer)
	}
	id, a, err := auth.Join(ctx, auth.InitConfig{Dir: d.Home.Keystore, Passphrase: d.Passphrase}, answer,
		func(a *auth.Answer, open func(context.Context, []byte, []byte) ([]byte, error)) error {
			return d.complete(ctx, a, open)
		})
	if err != nil {
		return nil, err
	}
	var over struct {
		handedOver
		Head json.RawMessage `json:"head"`
	}
	if err := json.Unmarshal(a.Vault, &over); err != nil {
		return nil, fmt.Errorf("the answer's vault: %v: %w", err, fs.ErrInvalid)
	}
	head, err := fs.Receive(d.Home.State, over.Head)
	if err != nil {
		return nil, err
	}
	if err := writeFile(d.Home.vaultFile(), head.Vault+"\n"); err != nil {
		return nil, fmt.Errorf("remembering the vault: %w", err)
	}
	out := &Joined{DID: id.DID, Device: id.Device.ID, Version: a.Version, Vault: head.Vault, Sequence: head.Sequence, IPFS: over.IPFS}
	if over.Egress != nil {
		out.ReadsFrom = len(over.Egress.Peers)
	}
	out.Egress, err = d.useEgress(over.Egress)
	return out, err
}

// renew takes a newer answer to the request of a device that has joined: its drive is at
// the commit that the answer names from then on. This is how a device without access to the
// Egress's API learns of newer commits.
func (d Devices) renew(ctx context.Context, answer []byte) (*Joined, error) {
	a, err := auth.ReadAnswer(ctx, d.Home.Keystore, d.Passphrase, answer)
	if errors.Is(err, auth.ErrNotRecipient) {
		return nil, fmt.Errorf("there is an identity here already, and %w: %w", err, auth.ErrExist)
	}
	if err != nil {
		return nil, err
	}
	var over struct {
		handedOver
		Head json.RawMessage `json:"head"`
	}
	if err := json.Unmarshal(a.Vault, &over); err != nil {
		return nil, fmt.Errorf("the answer's vault: %v: %w", err, fs.ErrInvalid)
	}
	if a.Log != nil {
		if _, err := auth.TakeLog(ctx, d.Home.Keystore, a.Log); err != nil {
			return nil, err
		}
	}
	vault, err := readVault(d.Home.vaultFile())
	if err != nil {
		return nil, err
	}
	var named struct {
		Vault string `json:"vault"`
	}
	if err := json.Unmarshal(over.Head, &named); err != nil || named.Vault != vault {
		return nil, fmt.Errorf("the answer is about vault %.80q, this device has %s: %w", named.Vault, vault, fs.ErrInvalid)
	}
	head, err := fs.Receive(d.Home.State, over.Head)
	if err != nil {
		return nil, err
	}
	sum, err := auth.Inspect(d.Home.Keystore)
	if err != nil {
		return nil, err
	}
	out := &Joined{DID: sum.DID, Device: sum.Device, Version: a.Version, Vault: vault, Sequence: head.Sequence, Again: true}
	if over.Egress != nil {
		out.ReadsFrom = len(over.Egress.Peers)
	}
	out.Egress, err = d.useEgress(over.Egress)
	return out, err
}

// complete reads from the newest commit what a short answer leaves out.
func (d Devices) complete(ctx context.Context, a *auth.Answer, open crypt.Opener) error {
	var over handedOver
	if err := json.Unmarshal(a.Vault, &over); err != nil || over.Head == nil {
		return fmt.Errorf("the answer's vault: %v: %w", err, fs.ErrInvalid)
	}
	commit, err := crypt.ParseCID(over.Head.Commit)
	if err != nil {
		return fmt.Errorf("the answer's commit: %v: %w", err, fs.ErrInvalid)
	}
	store, err := IdentitySearch{Home: d.Home, Config: d.Config, Log: d.Log}.openStore(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, searchEgress)
	defer cancel()
	ev, err := fs.Examine(ctx, store, open, fs.CommitName{Vault: over.Head.Vault, Device: over.Head.Device, Sequence: over.Head.Sequence}, commit)
	if err = errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("the newest commit of the vault: %w", err)
	}
	a.Log, a.Notes = ev.Log, ev.Notes
	return nil
}

// useEgress uses the Egress of the other device, unless this one has its own.
func (d Devices) useEgress(e *egressAnswer) ([]string, error) {
	used, err := d.Config.egressInUse(d.Home)
	if err != nil || e == nil || len(e.URLs)+len(e.Peers) == 0 || !used.none() {
		return nil, err
	}
	u := EgressUse{URLs: e.URLs, Peers: e.Peers}
	for _, f := range []struct {
		text []byte
		name string
		to   *string
	}{{e.CA, "egress-ca.pem", &u.CAFile}, {e.Auth, "egress-auth", &u.AuthFile}} {
		if len(f.text) == 0 {
			continue
		}
		*f.to = d.Home.stateFile(f.name)
		if err := writeFile(*f.to, string(f.text)); err != nil {
			return nil, err
		}
	}
	return e.URLs, UseEgress(d.Home, u)
}

// Revoke takes a device out of the DID document, and gives the vault a new key that it does
// not have. This device is the one that writes from then on.
func (d Devices) Revoke(ctx context.Context, device string) (version string, head fs.HeadInfo, err error) {
	if err := RefreshLog(ctx, d.Home, d.Config, d.Log); err != nil {
		return "", head, err
	}
	if err := d.ahead(ctx); err != nil {
		return "", head, err
	}
	doc, err := auth.Revoke(ctx, d.Home.Keystore, d.Passphrase, device)
	if err != nil {
		return "", head, err
	}
	head, err = vaultChange{home: d.Home, config: d.Config, passphrase: d.Passphrase, newEpoch: true, takeOver: true, log: d.Log}.run(ctx)
	if errors.Is(err, ErrNoVault) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("the device is out of the DID document, and the vault has no new key yet; say `ipfscloud device rekey`: %w", err)
	}
	return doc.Version.ID, head, err
}

// ahead takes over if another device writes the drive: when that one is revoked, a commit
// of this device stands on top of its last one. If it cannot be, the last commit that this
// device has accepted is what counts. fs.ErrBusy when the drive is mounted here, to read.
func (d Devices) ahead(ctx context.Context) error {
	vault, err := readVault(d.Home.vaultFile())
	if err != nil || vault == "" || d.writes(vault) == nil {
		return err
	}
	_, err = d.TakeOver(ctx, nil)
	if errors.Is(err, fs.ErrBusy) || ctx.Err() != nil || errors.Is(err, auth.ErrPassphrase) {
		return err
	}
	if err != nil {
		d.Log.Warn("taking over from the other device", "error", err)
	}
	return nil
}

// Rekey gives the vault a new key for the devices that are in the DID document; this one
// writes from then on.
func (d Devices) Rekey(ctx context.Context) (fs.HeadInfo, error) {
	return vaultChange{home: d.Home, config: d.Config, passphrase: d.Passphrase, newEpoch: true, takeOver: true, log: d.Log}.run(ctx)
}

// ListedDevice is a device of the DID document, for people.
type ListedDevice struct {
	Device string     `json:"device"`
	Name   string     `json:"name,omitempty"` // known while a session is open
	Scope  auth.Scope `json:"scope"`
	Until  *time.Time `json:"until,omitempty"`
	This   bool       `json:"this,omitempty"`
	Writes bool       `json:"writes,omitempty"` // it made the newest commit that this device has accepted
	// Added is the version of the document that listed it first, and By the device that
	// signed that.
	Added   string    `json:"added"`
	AddedAt time.Time `json:"added_at"`
	By      string    `json:"added_by,omitempty"`
	// Revoked is the version that took it out.
	Revoked   string     `json:"revoked,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// List tells which devices the DID document lists and, with all, which it has listed. Names
// are known to an open session alone.
func (d Devices) List(ctx context.Context, all bool) ([]ListedDevice, error) {
	history, err := auth.DeviceHistory(ctx, d.Home.Keystore)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	if c, err := auth.Dial(ctx, d.Home.AgentSocket()); err == nil {
		if list, err := c.Devices(ctx); err == nil {
			for _, x := range list {
				names[x.ID] = x.Name
			}
		}
	}
	writer := ""
	if vault, err := readVault(d.Home.vaultFile()); err == nil && vault != "" {
		if n, _, err := fs.LastAccepted(d.Home.State, vault); err == nil {
			writer = n.Device
		}
	}
	var out []ListedDevice
	for _, h := range history {
		if h.Removed.Version != "" && !all {
			continue
		}
		l := ListedDevice{Device: h.ID, Name: names[h.ID], Scope: h.Scope, This: h.This, Writes: h.ID == writer,
			Added: h.Added.Version, AddedAt: h.Added.Time, By: h.Added.By, Revoked: h.Removed.Version}
		if !h.Until.IsZero() {
			l.Until = &h.Until
		}
		if h.Removed.Version != "" {
			l.RevokedAt = &h.Removed.Time
		}
		out = append(out, l)
	}
	return out, nil
}
