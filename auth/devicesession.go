package auth

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

// What an open session tells of the devices.

// MayWrite tells whether the newest document lets a device commit at a time. ErrScope.
func (s *Session) MayWrite(ctx context.Context, device string, at time.Time) error {
	doc, err := s.newest(ctx)
	if err != nil {
		return err
	}
	return MayWrite(doc, device, at)
}

func (s *Session) mayWriteAt(ctx context.Context, device string, at []byte) error {
	if len(at) != 8 {
		return fmt.Errorf("a time of %d bytes: %w", len(at), ErrInvalid)
	}
	return s.MayWrite(ctx, device, time.Unix(0, int64(binary.BigEndian.Uint64(at))))
}

// MayWrite is Session.MayWrite.
func (c *Client) MayWrite(ctx context.Context, device string, at time.Time) error {
	_, err := c.call(ctx, &request{Op: opMayWrite, Device: device, Data: binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano()))})
	return err
}

func (s *Session) encodeDevices(ctx context.Context) ([]byte, error) {
	list, err := s.Devices(ctx)
	if err != nil {
		return nil, err
	}
	return json.Marshal(list)
}

// Devices is Session.Devices.
func (c *Client) Devices(ctx context.Context) (list []Device, err error) {
	resp, err := c.call(ctx, &request{Op: opDevices})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(resp.Data, &list); err != nil {
		return nil, fmt.Errorf("the agent's devices: %v: %w", err, ErrInvalid)
	}
	return list, nil
}
