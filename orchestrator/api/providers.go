package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

func (s *Server) offerings(a huma.API) {
	huma.Register(a, huma.Operation{OperationID: "list-providers", Method: http.MethodGet, Path: "/v1/providers", Summary: "list providers"}, s.listProviders)
	huma.Register(a, huma.Operation{OperationID: "list-offerings", Method: http.MethodGet, Path: "/v1/offerings", Summary: "list the places, sizes, prices and quotas that providers offer"}, s.listOfferings)
}

func (s *Server) listProviders(ctx context.Context, _ *struct{}) (*body[adminclient.Providers], error) {
	out := adminclient.Providers{Providers: []adminclient.Provider{}}
	byDefault := s.Provider("").Info.Name
	for _, name := range s.Providers {
		p := s.Provider(name)
		view := adminclient.Provider{Name: name, Default: name == byDefault, Version: p.Info.Version, Notes: p.Info.Notes, Capabilities: []string{}}
		if json.Valid(p.Info.ConfigSchema) {
			view.Settings = p.Info.ConfigSchema
		}
		for _, c := range p.Info.Capabilities {
			view.Capabilities = append(view.Capabilities, string(c))
		}
		if _, err := p.Catalog.Info(ctx); err != nil {
			view.Problem = providers.Explain(err)
		}
		out.Providers = append(out.Providers, view)
	}
	return &body[adminclient.Providers]{Status: http.StatusOK, Body: out}, nil
}

func (s *Server) listOfferings(ctx context.Context, _ *struct{}) (*body[adminclient.Offerings], error) {
	out := adminclient.Offerings{Offerings: []adminclient.Offering{}}
	for _, name := range s.Providers {
		offered, err := s.Provider(name).Offerings(ctx)
		if err != nil {
			if out.Problems == nil {
				out.Problems = map[string]string{}
			}
			out.Problems[name] = providers.Explain(err)
		}
		for _, o := range offered {
			out.Offerings = append(out.Offerings, adminclient.Offering{
				Provider: name, Region: o.Region, Size: o.Size, VCPUs: o.VCPUs, MemoryBytes: o.MemoryBytes, Available: o.Available,
				MicrosPerHour: o.MicrosPerHour, Currency: o.Currency, PricedAt: o.PricedAt, Confidential: o.Confidential,
			})
		}
	}
	return &body[adminclient.Offerings]{Status: http.StatusOK, Body: out}, nil
}

type snapshotInput struct {
	ID       string `path:"id" pattern:"^[a-z2-7]{26}$"`
	Snapshot string `path:"snapshot" pattern:"^[a-z2-7]{26}$"`
}

func (s *Server) snapshots(a huma.API) {
	const path = "/v1/instances/{id}/snapshots/{snapshot}"
	huma.Register(a, huma.Operation{OperationID: "take-snapshot", Method: http.MethodPut, Path: path, Summary: "copy an instance's data disk, as encrypted as it is"}, s.takeSnapshot)
	huma.Register(a, huma.Operation{OperationID: "restore-snapshot", Method: http.MethodPost, Path: path + "/restore", Summary: "set an instance's data disk back to a snapshot, which restarts its machine", DefaultStatus: http.StatusAccepted}, s.restoreSnapshot)
	huma.Register(a, huma.Operation{OperationID: "delete-snapshot", Method: http.MethodDelete, Path: path, Summary: "delete a snapshot"}, s.deleteSnapshot)
}

// snapshotter answers who copies the disk of the instance's machine.
func (s *Server) snapshotter(ctx context.Context, id string) (providers.Snapshotter, orchestrator.Instance, error) {
	i, err := s.one(ctx, id)
	if err != nil {
		return nil, i, s.problem(err)
	}
	snapshotter := s.Provider(i.Plan.Provider).Snapshotter
	switch {
	case snapshotter == nil:
		return nil, i, problem.New(http.StatusNotImplemented, "no-snapshots", "this provider makes no snapshots")
	case i.Machine == "":
		return nil, i, problem.New(http.StatusNotFound, "no-machine", "the instance has no machine yet")
	}
	return snapshotter, i, nil
}

func (s *Server) takeSnapshot(ctx context.Context, in *snapshotInput) (*body[adminclient.Snapshot], error) {
	snapshotter, i, err := s.snapshotter(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	made, err := snapshotter.Snapshot(ctx, i.Machine, providers.SnapshotID(in.Snapshot))
	if err != nil {
		return nil, s.refused(err)
	}
	return &body[adminclient.Snapshot]{Status: http.StatusOK, Body: adminclient.Snapshot{
		ID: string(made.ID), Bytes: made.Bytes, CreatedAt: made.CreatedAt, Complete: made.Complete,
	}}, nil
}

func (s *Server) deleteSnapshot(ctx context.Context, in *snapshotInput) (*struct{}, error) {
	snapshotter, _, err := s.snapshotter(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := snapshotter.DeleteSnapshot(ctx, providers.SnapshotID(in.Snapshot)); err != nil {
		return nil, s.refused(err)
	}
	return nil, nil
}

// restoreSnapshot has the machine switched off, set back and switched on.
func (s *Server) restoreSnapshot(ctx context.Context, in *snapshotInput) (*body[Instance], error) {
	if _, _, err := s.snapshotter(ctx, in.ID); err != nil {
		return nil, err
	}
	return s.change(ctx, in.ID, func(tx store.Tx, id orchestrator.InstanceID) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		event, err := i.Restore(providers.SnapshotID(in.Snapshot), s.Clock(), s.Limits)
		if err != nil {
			return err
		}
		if err := tx.Replace(&i); err != nil {
			return err
		}
		if err := tx.Note(event); err != nil {
			return err
		}
		return tx.Enqueue(id)
	})
}

// refused says what a provider's refusal means to who asked for it directly.
func (s *Server) refused(err error) error {
	statuses := map[providers.Code]int{
		providers.CodeNotFound: http.StatusNotFound, providers.CodeConflict: http.StatusConflict, providers.CodeAborted: http.StatusConflict,
		providers.CodeInvalid: http.StatusUnprocessableEntity, providers.CodeThrottled: http.StatusServiceUnavailable,
		providers.CodeUnavailable: http.StatusServiceUnavailable, providers.CodeQuota: http.StatusInsufficientStorage, providers.CodeCapacity: http.StatusInsufficientStorage,
	}
	status, ok := statuses[providers.CodeOf(err)]
	if !ok {
		return s.problem(err)
	}
	return problem.New(status, "provider-refused", providers.Explain(err))
}
