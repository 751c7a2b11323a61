package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

type body[T any] struct {
	Status int
	Body   T
}

type idInput struct {
	ID string `path:"id" pattern:"^[a-z2-7]{26}$"`
}

type pageInput struct {
	After   string `query:"after" doc:"the last id of the page before" pattern:"^([a-z2-7]{26})?$"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Deleted bool   `query:"deleted" doc:"include those that are gone"`
}

func (s *Server) instances(a huma.API) {
	const path = "/v1/instances"
	huma.Register(a, huma.Operation{OperationID: "list-instances", Method: http.MethodGet, Path: path, Summary: "list instances"}, s.list)
	huma.Register(a, huma.Operation{
		OperationID: "create-instance", Method: http.MethodPost, Path: path, Summary: "give a user an instance", DefaultStatus: http.StatusCreated,
		Responses: map[string]*huma.Response{"200": {
			Description: "the user has this one already",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Instance](), true, "")}},
		}},
	}, s.create)
	huma.Register(a, huma.Operation{OperationID: "show-instance", Method: http.MethodGet, Path: path + "/{id}", Summary: "show an instance"}, s.show)
	huma.Register(a, huma.Operation{OperationID: "delete-instance", Method: http.MethodDelete, Path: path + "/{id}", Summary: "delete an instance and its data", DefaultStatus: http.StatusAccepted}, s.remove)
	huma.Register(a, huma.Operation{OperationID: "retry-instance", Method: http.MethodPost, Path: path + "/{id}/retry", Summary: "try a failed or quarantined instance again", DefaultStatus: http.StatusAccepted}, s.retry)
	huma.Register(a, huma.Operation{OperationID: "replace-instance", Method: http.MethodPost, Path: path + "/{id}/replace", Summary: "give an instance another machine with the data disk of the one it has", DefaultStatus: http.StatusAccepted}, s.replace)
	huma.Register(a, huma.Operation{OperationID: "resize-instance", Method: http.MethodPost, Path: path + "/{id}/resize", Summary: "grow an instance's data disk", DefaultStatus: http.StatusAccepted}, s.resize)
	huma.Register(a, huma.Operation{OperationID: "show-console", Method: http.MethodGet, Path: path + "/{id}/console", Summary: "stream a machine's console"}, s.console)
}

func (s *Server) list(ctx context.Context, in *pageInput) (*body[Instances], error) {
	out := Instances{Instances: []Instance{}}
	err := s.Store.View(ctx, func(v store.Reader) error {
		found, err := v.Instances(store.Filter{
			After: orchestrator.InstanceID(in.After), Limit: in.Limit + 1, Deleted: in.Deleted,
		})
		for n, i := range found {
			if n == in.Limit {
				out.Next = out.Instances[n-1].ID
				break
			}
			out.Instances = append(out.Instances, s.view(i))
		}
		return err
	})
	if err != nil {
		return nil, s.problem(err)
	}
	return &body[Instances]{Status: http.StatusOK, Body: out}, nil
}

// create is what a signup does, by an operator's word. Asking twice is fine.
func (s *Server) create(ctx context.Context, in *struct{ Body NewInstance }) (*body[Instance], error) {
	user := orchestrator.UserID(in.Body.UserID)
	if err := signup.CheckUser(user); err != nil {
		return nil, problem.New(http.StatusUnprocessableEntity, "user-invalid", err.Error())
	}
	wish := orchestrator.Wish{Plan: in.Body.Plan, Region: in.Body.Region}
	if err := signup.CheckWish(wish); err != nil {
		return nil, problem.New(http.StatusUnprocessableEntity, "wish-invalid", err.Error())
	}
	out := &body[Instance]{Status: http.StatusOK}
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		outcome, err := s.SignUps.SignUp(tx, user, wish, s.Clock())
		if err != nil {
			return err
		}
		switch outcome.Result {
		case signup.Ignored:
			return problem.New(http.StatusConflict, "user-deleted", outcome.Reason)
		case signup.Created:
			out.Status = http.StatusCreated
		}
		i, err := tx.Instance(outcome.Instance)
		out.Body = s.view(i)
		return err
	})
	if err != nil {
		return nil, s.problem(err)
	}
	return out, nil
}

func (s *Server) one(ctx context.Context, id string) (i orchestrator.Instance, err error) {
	return i, s.Store.View(ctx, func(v store.Reader) error {
		if i, err = v.Instance(orchestrator.InstanceID(id)); err != nil || i.State != orchestrator.StateWaiting {
			return err
		}
		others, err := v.Instances(store.Filter{User: i.User})
		if len(others) > 1 {
			i.Reason += "; the same user's machine before it is still being deleted"
		}
		return err
	})
}

func (s *Server) show(ctx context.Context, in *idInput) (*body[Instance], error) {
	i, err := s.one(ctx, in.ID)
	if err != nil {
		return nil, s.problem(err)
	}
	return &body[Instance]{Status: http.StatusOK, Body: s.view(i)}, nil
}

func (s *Server) remove(ctx context.Context, in *idInput) (*body[Instance], error) {
	return s.change(ctx, in.ID, func(tx store.Tx, id orchestrator.InstanceID) error {
		_, err := s.SignUps.Remove(tx, id)
		return err
	})
}

func (s *Server) retry(ctx context.Context, in *idInput) (*body[Instance], error) {
	return s.move(ctx, in.ID, func(i *orchestrator.Instance) (orchestrator.Event, error) { return i.Retry(s.Clock(), s.Limits) })
}

func (s *Server) replace(ctx context.Context, in *idInput) (*body[Instance], error) {
	return s.move(ctx, in.ID, func(i *orchestrator.Instance) (orchestrator.Event, error) {
		if i.Created && !s.Provider(i.Plan.Provider).AttachesData {
			return orchestrator.Event{}, problem.New(http.StatusNotImplemented, "no-attach-data", "this provider gives no machine the data disk of another")
		}
		return i.Replace(s.Clock(), s.Limits)
	})
}

// move puts an instance into another state, from which the reconciler goes on.
func (s *Server) move(ctx context.Context, id string, to func(*orchestrator.Instance) (orchestrator.Event, error)) (*body[Instance], error) {
	return s.change(ctx, id, func(tx store.Tx, id orchestrator.InstanceID) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		event, err := to(&i)
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

// resize raises what the data disk shall be; it never shrinks.
func (s *Server) resize(ctx context.Context, in *struct {
	ID   string `path:"id" pattern:"^[a-z2-7]{26}$"`
	Body adminclient.Resize
}) (*body[Instance], error) {
	return s.change(ctx, in.ID, func(tx store.Tx, id orchestrator.InstanceID) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		now := max(i.DataBytes, i.Plan.DataBytes)
		switch {
		case i.Desired == orchestrator.Absent:
			return problem.New(http.StatusConflict, "instance-deleted", "the instance is being deleted")
		case in.Body.DataBytes < now:
			return problem.New(http.StatusUnprocessableEntity, "disk-shrinks",
				fmt.Sprintf("data_bytes is %d, and the disk has %d: it only grows", in.Body.DataBytes, now))
		case in.Body.DataBytes == now:
			return nil
		}
		i.DataBytes = in.Body.DataBytes
		i.Generation++
		if err := tx.Replace(&i); err != nil {
			return err
		}
		return tx.Enqueue(id)
	})
}

func (s *Server) change(ctx context.Context, id string, f func(store.Tx, orchestrator.InstanceID) error) (*body[Instance], error) {
	out := &body[Instance]{Status: http.StatusAccepted}
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		if err := f(tx, orchestrator.InstanceID(id)); err != nil {
			return err
		}
		i, err := tx.Instance(orchestrator.InstanceID(id))
		out.Body = s.view(i)
		return err
	})
	if err != nil {
		return nil, s.problem(err)
	}
	return out, nil
}

// consoleInput repeats the id: the framework does not look into an embedded
// struct that is not exported.
type consoleInput struct {
	ID     string `path:"id" pattern:"^[a-z2-7]{26}$"`
	Follow bool   `query:"follow" doc:"go on until the client leaves"`
}

func (s *Server) console(ctx context.Context, in *consoleInput) (*huma.StreamResponse, error) {
	i, err := s.one(ctx, in.ID)
	switch {
	case err != nil:
		return nil, s.problem(err)
	case s.Provider(i.Plan.Provider).Consoler == nil:
		return nil, problem.New(http.StatusNotImplemented, "no-console", "this provider shows no consoles")
	case i.Machine == "":
		return nil, problem.New(http.StatusNotFound, "no-machine", "the instance has no machine yet")
	}
	stream, err := s.Provider(i.Plan.Provider).Consoler.Console(ctx, i.Machine, in.Follow)
	if err != nil {
		if providers.CodeOf(err) == providers.CodeNotFound {
			return nil, problem.New(http.StatusNotFound, "no-machine", "the provider has no such machine")
		}
		return nil, s.problem(err)
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		defer stream.Close()
		c.SetHeader("Content-Type", "application/octet-stream")
		w := flushing(c)
		// A machine that says nothing has a console too: the answer begins here.
		_, err := w.Write(nil)
		if err == nil {
			_, err = io.Copy(w, stream)
		}
		if err != nil {
			s.Logger.Debug("console ended", zap.Error(err))
		}
	}}, nil
}

// flushing hands on each write at once.
func flushing(c huma.Context) io.Writer {
	w := c.BodyWriter()
	flusher, ok := w.(http.Flusher)
	if !ok {
		return w
	}
	return writerFunc(func(b []byte) (int, error) {
		n, err := w.Write(b)
		flusher.Flush()
		return n, err
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
