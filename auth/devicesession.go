package auth

import (
	"context"
	"encoding/json"
	"fmt"
)

// What an open session tells of the devices.

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
