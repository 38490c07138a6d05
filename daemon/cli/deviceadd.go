package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/daemon"
)

// add makes this machine's keys and asks for approval, or takes the answer.
func (c *deviceCommand) add(ctx context.Context, e *env, d daemon.Devices) error {
	// A device of the identity takes newer answers to its request; it makes no second one.
	s, err := auth.Inspect(e.home.Keystore)
	if err == nil && s.DID != "" && c.answer == "" {
		return fmt.Errorf("%s in %s: %w", s.DID, e.home.Keystore, auth.ErrExist)
	} else if err != nil && !errors.Is(err, auth.ErrNoIdentity) {
		return err
	} else if err != nil && c.answer != "" {
		return err
	}
	fresh := err != nil
	if d.Passphrase, err = c.pass.get(e, "Passphrase of this device", fresh); err != nil {
		return err
	}
	defer clear(d.Passphrase)
	if c.answer != "" {
		return c.join(ctx, e, d)
	}
	name := c.name
	if name == "" {
		name = deviceName()
	}
	out, err := newOutFile("--request-out", c.requestOut)
	if err != nil {
		return err
	}
	defer out.discard()
	r, err := auth.Enrol(ctx, auth.InitConfig{Dir: e.home.Keystore, Passphrase: d.Passphrase, DeviceName: name})
	if err != nil {
		return err
	}
	if c.egress && c.code != "" { // a second call, for the answer
		return c.fetch(ctx, e, d, r)
	}
	if c.egress {
		if err := d.PostRequest(ctx, r); err != nil {
			return err
		}
	}
	if err := out.write(r.Encode()); err != nil {
		return fmt.Errorf("--request-out: %w", err)
	}
	if c.json {
		return json.NewEncoder(e.out).Encode(map[string]any{"device": r.Device(), "request": string(r.Encode()), "code": r.Code(), "scan": r.Scan()})
	}
	if c.requestOut == "" && !c.egress {
		fmt.Fprintf(e.out, "%s", r.Encode())
	}
	if _, ok := e.err.terminal(); ok {
		if err := drawQR(e.err, r.Scan()); err != nil {
			return err
		}
	}
	fmt.Fprintf(e.err, "\nCode of this device: %s\n\n", r.Code())
	if c.egress {
		fmt.Fprintln(e.err, "The request is in Egress for an hour. Say `ipfscloud device approve --egress` on a device of yours:")
		fmt.Fprintln(e.err, "it asks for the code above.")
		if !e.terminal() {
			fmt.Fprintln(e.err, "Then take its answer: `ipfscloud device add --egress --code CODE`.")
			return nil
		}
		return c.fetch(ctx, e, d, r)
	}
	fmt.Fprintln(e.err, "Carry the request to a device of yours and say `ipfscloud device approve FILE` there;")
	fmt.Fprintln(e.err, "it asks for the code above. Bring its answer back: `ipfscloud device add --answer FILE`.")
	if !e.terminal() {
		return nil
	}
	fmt.Fprint(e.err, "Or paste the answer here (Ctrl-D to do it later):\n")
	c.answer = "-"
	if err := c.join(ctx, e, d); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	return nil
}

const askEgress = 2 * time.Second // between two looks for the answer

// fetch waits for the answer in Egress, and takes it.
func (c *deviceCommand) fetch(ctx context.Context, e *env, d daemon.Devices, r *auth.Request) error {
	waiting, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	tick := time.NewTicker(askEgress)
	defer tick.Stop()
	for {
		answer, err := d.FindAnswer(ctx, r)
		if err == nil {
			if err := c.take(ctx, e, d, answer); err != nil {
				return err
			}
			if err := d.WithdrawAnswer(ctx, r); err != nil { // it expires
				e.err.Println("The answer is still in Egress:", err)
			}
			return nil
		}
		if !errors.Is(err, daemon.ErrNoPost) {
			return err
		}
		select {
		case <-tick.C:
		case <-waiting.Done():
			return fmt.Errorf("no answer within %v; say it again: %w", c.wait, daemon.ErrNoPost)
		}
	}
}

func (c *deviceCommand) join(ctx context.Context, e *env, d daemon.Devices) error {
	answer, err := e.readMessage(c.answer)
	if err != nil {
		return err
	}
	return c.take(ctx, e, d, answer)
}

func (c *deviceCommand) take(ctx context.Context, e *env, d daemon.Devices, answer []byte) error {
	code, err := c.askCode(e, "Code that the other device shows with the answer: ")
	if err != nil {
		return err
	}
	if err := auth.CheckAnswer(answer, code); err != nil {
		return err
	}
	j, err := d.Join(ctx, answer)
	if err != nil {
		return err
	}
	if !c.json {
		if j.Again {
			e.err.Printf("The drive stands at commit %d here; mount it again to see it.\n", j.Sequence)
			return c.print(e, map[string]any{"did": j.DID, "device": j.Device, "version": j.Version, "vault": j.Vault, "sequence": j.Sequence}, j.DID)
		}
		e.err.Printf("This is device %s of the identity now, version %s. The vault stands at commit %d.\n", j.Device, j.Version, j.Sequence)
		if len(j.Egress) > 0 {
			e.err.Println("Its Egress is used:", strings.Join(j.Egress, ", "))
		} else if j.ReadsFrom > 0 {
			e.err.Printf("It reads from the nodes of the owner's Egress (%d addresses), and has no access to the Egress itself: newer commits come with a newer answer, taken with `device add --answer` again.\n", j.ReadsFrom)
		} else if j.IPFS != "" {
			e.err.Println("The other device uses the IPFS node at", j.IPFS)
		}
		fmt.Fprintln(e.err, "Log in with `ipfscloud login`, and mount. The drive is read-only here until `ipfscloud device take-over`.")
	}
	return c.print(e, map[string]any{"did": j.DID, "device": j.Device, "version": j.Version, "vault": j.Vault, "sequence": j.Sequence}, j.DID)
}
