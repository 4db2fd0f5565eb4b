package agent

import (
	"context"
	"path/filepath"
	"time"

	"bulkhead/agent/respond"
	"bulkhead/enforce/keeper"
)

// ReleaseKeeper makes the keeper let every call pass. Filters stay in their processes, but deny nothing any more.
func ReleaseKeeper(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := keeper.Dial(ctx, keeper.ClientOptions{Socket: socket})
	if err != nil {
		return nil // none runs: nobody holds a listener
	}
	defer client.Close()
	state, err := client.State(ctx)
	if err != nil {
		return err
	}
	for _, w := range state.Wards {
		if err := client.Forget(ctx, w.CgroupID); err != nil {
			return err
		}
	}
	return nil
}

// Resume lets every container go on that a rule had held still, and every workload that one had cut off the network.
func Resume(state string) error {
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	return respond.Resume(root, filepath.Join(state, "response"))
}
