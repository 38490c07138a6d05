package cli

import (
	"context"
	"errors"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// Exit codes. They are an interface: scripts depend on them.
const (
	ExitOK          = 0
	ExitFailure     = 1 // something went wrong that has no code of its own
	ExitUsage       = 2 // the command line or the configuration is wrong
	ExitNotFound    = 3 // no such identity, drive, path or mountpoint
	ExitRefused     = 4 // not logged in, or the login was refused
	ExitUnavailable = 5 // the storage backend did not answer; try again
	ExitIntegrity   = 6 // something stored does not verify
	ExitMount       = 7 // the drive cannot be mounted there
	ExitBusy        = 8 // in use or locked by another process
)

// errUsage: the command line is wrong.
var errUsage = errors.New("usage")

// exits is the one table from meanings to exit codes, and to what a person can do. The
// first match counts.
var exits = []struct {
	err    error
	code   int
	advice string
}{
	{daemon.ErrUnsafe, ExitUsage, ""},
	{errUsage, ExitUsage, ""},
	{daemon.ErrSiteRefused, ExitRefused, "ask the site for a new request: each is good for one try, within two minutes"},
	{daemon.ErrClaim, ExitIntegrity, ""},
	{daemon.ErrClaimForm, ExitUsage, ""},
	{daemon.ErrNoClaim, ExitNotFound, "see `ipfscloud id claim list`"},
	{daemon.ErrClaimOrigin, ExitUnavailable, "try again, or give the file with --file"},
	{daemon.ErrConfig, ExitUsage, ""},
	{auth.ErrInvalid, ExitUsage, ""},
	{auth.ErrPhrase, ExitUsage, ""},
	{auth.ErrPassphrase, ExitRefused, ""},
	{auth.ErrDevice, ExitRefused, "if it is yours and was lost or left out, `ipfscloud recover` on it enrols it anew"},
	{auth.ErrCode, ExitRefused, "compare again; if it stays so, somebody has changed the message"},
	{auth.ErrScope, ExitRefused, "a device with all rights can approve it anew"},
	{auth.ErrEnrols, ExitRefused, "`ipfscloud device add` shows its request again"},
	{auth.ErrNoDevice, ExitNotFound, "see `ipfscloud device list`"},
	{daemon.ErrNoPost, ExitNotFound, "an hour after it was asked for, a request is gone: ask again"},
	{daemon.ErrNoVault, ExitNotFound, "`ipfscloud mount MOUNTPOINT`"},
	{daemon.ErrOtherWriter, ExitBusy, "`ipfscloud device take-over` makes this device the one that writes"},
	{auth.ErrDeactivated, ExitRefused, "a DID that was given up stays so"},
	{auth.ErrAwaits, ExitNotFound, "say where to look: `ipfscloud egress use URL`, or a copy of the IPFS repo; or `ipfscloud recover`"},
	{daemon.ErrEgressRefused, ExitRefused, "the password may have been changed: ask whoever runs that Egress, and say `ipfscloud egress use URL --auth-file FILE`"},
	{daemon.ErrNoSource, ExitNotFound, "run `ipfscloud egress use URL` (with --auth-file and --ca, if it wants them): the device that approved this one knows them"},
	{daemon.ErrIdentityNotFound, ExitNotFound, "say where to look: `ipfscloud egress use URL`, --ipfs URL, or a copy of the IPFS repo"},
	{daemon.ErrTooOld, ExitIntegrity, "look in more places, or say a lower --min-sequence"},
	{auth.ErrNoName, ExitUsage, "--out DIR writes the files for the web server of its domain"},
	{daemon.ErrDIDCannot, ExitUsage, "`ipfscloud id migrate` makes a did:webvh of a did:key"},
	{auth.ErrNoService, ExitNotFound, ""},
	{auth.ErrLog, ExitIntegrity, "`ipfscloud recover` finds it in a commit, or in a file with --log"},
	{auth.ErrRefused, ExitRefused, ""},
	{auth.ErrNoSession, ExitRefused, "log in with `ipfscloud login`"},
	{auth.ErrKeystore, ExitIntegrity, "restore the keystore from a backup, or make it anew with `ipfscloud init --phrase-in FILE`"},
	{auth.ErrRollback, ExitIntegrity, ""},
	{auth.ErrHeld, ExitBusy, "unmount first: `ipfscloud umount MOUNTPOINT`"},
	{auth.ErrBusy, ExitBusy, ""},
	{auth.ErrNoIdentity, ExitNotFound, "make one with `ipfscloud init`"},
	{daemon.ErrNoNetwork, ExitUsage, "set public = true under [network] in the configuration, or use a node of your own: --ipfs URL"},
	{daemon.ErrDIDLog, ExitIntegrity, ""},
	{daemon.ErrDID, ExitUsage, ""},
	{daemon.ErrDIDMethod, ExitUsage, "key, web, peer and webvh resolve"},
	{daemon.ErrDIDNotFound, ExitNotFound, ""},
	{daemon.ErrDIDUnavailable, ExitUnavailable, "try again"},
	{auth.ErrUnavailable, ExitUnavailable, "try again"},
	{daemon.ErrMountpointMissing, ExitNotFound, "make it with mkdir"},
	{daemon.ErrMountpointNotDir, ExitMount, ""},
	{daemon.ErrMountpointNotEmpty, ExitMount, "choose an empty directory, or say -o nonempty"},
	{daemon.ErrMountpointBusy, ExitBusy, "unmount it first"},
	{daemon.ErrMount, ExitMount, ""},
	{daemon.ErrNoEgress, ExitNotFound, "set one up with `ipfscloud egress up` or `ipfscloud egress use URL`"},
	{daemon.ErrNoFleet, ExitNotFound, ""},
	{daemon.ErrFleetBinaries, ExitNotFound, "build them with `make egress`"},
	{daemon.ErrFleetBusy, ExitBusy, ""},
	{daemon.ErrFleetDown, ExitNotFound, "start them with `ipfscloud egress up`"},
	{daemon.ErrFleetConfig, ExitUsage, ""},
	{daemon.ErrFleetToken, ExitUsage, "print it again with `ipfscloud egress token`"},
	{daemon.ErrFleetStart, ExitUnavailable, "see the log; try again"},
	{daemon.ErrNotRunning, ExitNotFound, "mount it with `ipfscloud mount MOUNTPOINT`"},
	{daemon.ErrBusy, ExitBusy, ""},
	{daemon.ErrStateMissing, ExitIntegrity, "put it back if you can; `ipfscloud mount --accept-missing-state MOUNTPOINT`, or the mount option accept_missing_state, goes on without what only it held"},
	{daemon.ErrRollback, ExitIntegrity, ""},
	{daemon.ErrFork, ExitIntegrity, ""},
	{daemon.ErrIntegrity, ExitIntegrity, ""},
	{auth.ErrNotRecipient, ExitRefused, ""},
	{daemon.ErrNotRecipient, ExitRefused, "this identity does not own the vault"},
	{daemon.ErrUnavailable, ExitUnavailable, "is the IPFS node running? try again"},
	{daemon.ErrInvalid, ExitUsage, ""},
	{daemon.ErrExists, ExitUsage, ""},
	{daemon.ErrNotFound, ExitNotFound, ""},
	{context.DeadlineExceeded, ExitUnavailable, "try again"},
}

// exitCode returns the code and the advice for an error.
func exitCode(err error) (int, string) {
	if err == nil {
		return ExitOK, ""
	}
	var child childError
	if errors.As(err, &child) {
		return child.code, ""
	}
	for _, e := range exits {
		if errors.Is(err, e.err) {
			return e.code, e.advice
		}
	}
	return ExitFailure, ""
}
