package daemon

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/cluster"
)

// Devices that use one Egress can hand their messages over through it: as the metadata of
// pins of tiny blocks, which expire. Whoever may use that Egress can read a request, which
// holds no secret, replace it, or take it away; the codes show the second.

const (
	postOwner   = "ipfscloud-device" // in cluster.OwnerKey
	requestKey  = "device-request"
	answerKey   = "device-answer"
	answerToKey = "answer-to"
	postLife    = time.Hour
	postWait    = 20 * time.Second
	postTries   = 8 // requests whose code is computed
)

// ErrNoPost: Egress has no such message.
var ErrNoPost = errors.New("no such message in Egress")

// post is the Egress as a place for messages.
func (d Devices) post(ctx context.Context, use func(ctx context.Context, c *cluster.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, postWait)
	defer cancel()
	client, err := egressClient(d.Home, d.Config, d.Log)
	if err != nil {
		return err
	}
	if client == nil {
		return ErrNoEgress
	}
	defer client.Close()
	if err := use(ctx, client); err != nil {
		return egressError(err)
	}
	return nil
}

// postCID is a CID whose block lies in itself: CIDv1, raw, identity.
func postCID(kind, id string) string {
	text := postOwner + "/" + kind + "/" + id
	b := append([]byte{0x01, 0x55, 0x00, byte(len(text))}, text...)
	return "b" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// postID names the request, and the answer to it.
func postID(r *auth.Request) string {
	scan := r.Scan()
	return strings.ToLower(scan[strings.LastIndexByte(scan, ':')+1:])
}

func message(text []byte) string { return base64.RawURLEncoding.EncodeToString(text) }

// PostRequest puts a request into Egress.
func (d Devices) PostRequest(ctx context.Context, r *auth.Request) error {
	return d.post(ctx, func(ctx context.Context, c *cluster.Client) error {
		id := postID(r)
		return c.Post(ctx, postCID("request", id), postOwner, map[string]string{
			cluster.OwnerKey: postOwner, requestKey: message(r.Bytes()),
		}, time.Now().Add(postLife))
	})
}

// FindRequest looks for the request with a code in Egress. ErrNoPost.
func (d Devices) FindRequest(ctx context.Context, code string) (found *auth.Request, err error) {
	var pins []cluster.Found
	err = d.post(ctx, func(ctx context.Context, c *cluster.Client) (err error) {
		pins, err = c.Find(ctx, cluster.OwnerKey, postOwner)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(pins, func(a, b cluster.Found) int { return b.Created.Compare(a.Created) })
	tries := 0
	for _, p := range pins {
		b, err := base64.RawURLEncoding.DecodeString(p.Metadata[requestKey])
		if err != nil || len(b) == 0 {
			continue
		}
		r, err := auth.ReadRequest(b)
		if err != nil {
			continue
		}
		if tries++; tries > postTries {
			break
		}
		if r.CheckCode(code) == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%d requests, none with this code: %w", min(tries, postTries), ErrNoPost)
}

// PostAnswer puts the answer to a request into Egress.
func (d Devices) PostAnswer(ctx context.Context, r *auth.Request, answer []byte) error {
	b, err := auth.AnswerBytes(answer)
	if err != nil {
		return err
	}
	return d.post(ctx, func(ctx context.Context, c *cluster.Client) error {
		id := postID(r)
		err := c.Post(ctx, postCID("answer", id), postOwner, map[string]string{
			cluster.OwnerKey: postOwner, answerToKey: id, answerKey: message(b),
		}, time.Now().Add(postLife))
		if err == nil {
			err = c.Withdraw(ctx, postCID("request", id))
		}
		return err
	})
}

// FindAnswer looks for the answer to a request in Egress. ErrNoPost while there is none.
func (d Devices) FindAnswer(ctx context.Context, r *auth.Request) (answer []byte, err error) {
	err = d.post(ctx, func(ctx context.Context, c *cluster.Client) error {
		pins, err := c.Find(ctx, answerToKey, postID(r))
		if err != nil {
			return err
		}
		for _, p := range pins {
			b, err := base64.RawURLEncoding.DecodeString(p.Metadata[answerKey])
			if err == nil && len(b) > 0 && p.CID == postCID("answer", postID(r)) {
				answer = auth.AnswerText(b)
				return nil
			}
		}
		return nil
	})
	if err == nil && answer == nil {
		err = ErrNoPost
	}
	return answer, err
}

// WithdrawAnswer takes the answer that was taken out of Egress.
func (d Devices) WithdrawAnswer(ctx context.Context, r *auth.Request) error {
	return d.post(ctx, func(ctx context.Context, c *cluster.Client) error {
		return c.Withdraw(ctx, postCID("answer", postID(r)))
	})
}
