package adminclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

const (
	instancesPath = "/v1/instances"
	releasesPath  = "/v1/releases"
)

// ErrNotFound says that no instance, or no release, has the given name.
var ErrNotFound = errors.New("not found")

// AmbiguousError says that several ids begin with Name.
type AmbiguousError struct {
	Name string
	IDs  []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%q is the beginning of several: %s", e.Name, strings.Join(e.IDs, ", "))
}

func instancePath(id string) string { return instancesPath + "/" + url.PathEscape(id) }

// Instances lists all of them, those that are gone too where deleted is set.
// Errors are those of every call.
func (c *Client) Instances(ctx context.Context, deleted bool) ([]Instance, error) {
	all := []Instance{}
	query := url.Values{"limit": {strconv.Itoa(pageSize)}, "deleted": {strconv.FormatBool(deleted)}}
	for {
		var page Instances
		if err := c.call(ctx, http.MethodGet, instancesPath+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Instances...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("after", page.Next)
	}
}

// Instance reads one by its whole id. Errors are those of every call.
func (c *Client) Instance(ctx context.Context, id string) (i Instance, err error) {
	err = c.call(ctx, http.MethodGet, instancePath(id), nil, &i)
	return i, err
}

var wholeID = regexp.MustCompile(`^[a-z2-7]{26}$`)

// Find reads the instance that name means: by its whole id, by its user, or by
// a beginning of its id that no other has. Those that are gone are found by
// their whole id alone. Errors are ErrNotFound, *AmbiguousError, and those of
// every call.
func (c *Client) Find(ctx context.Context, name string) (Instance, error) {
	if wholeID.MatchString(name) {
		i, err := c.Instance(ctx, name)
		var refusal *Error
		if !errors.As(err, &refusal) || refusal.Status != http.StatusNotFound {
			return i, err
		}
	}
	all, err := c.Instances(ctx, false)
	if err != nil {
		return Instance{}, err
	}
	return find(all, name)
}

func find(all []Instance, name string) (Instance, error) {
	var begin []Instance
	for _, i := range all {
		switch {
		case i.UserID == name:
			return i, nil
		case name != "" && strings.HasPrefix(i.ID, name):
			begin = append(begin, i)
		}
	}
	switch len(begin) {
	case 0:
		return Instance{}, fmt.Errorf("instance %q: %w", name, ErrNotFound)
	case 1:
		return begin[0], nil
	}
	ambiguous := &AmbiguousError{Name: name}
	for _, i := range begin {
		ambiguous.IDs = append(ambiguous.IDs, i.ID)
	}
	return Instance{}, ambiguous
}

// Create gives a user an instance; one that is there is fine. Errors are those
// of every call.
func (c *Client) Create(ctx context.Context, n NewInstance) (i Instance, err error) {
	err = c.call(ctx, http.MethodPost, instancesPath, n, &i)
	return i, err
}

// Delete asks for an instance, its machine and its data to be deleted, which
// goes on after the answer. Errors are those of every call.
func (c *Client) Delete(ctx context.Context, id string) (i Instance, err error) {
	err = c.call(ctx, http.MethodDelete, instancePath(id), nil, &i)
	return i, err
}

// Retry lets a failed or quarantined instance be tried again. Errors are those
// of every call.
func (c *Client) Retry(ctx context.Context, id string) (i Instance, err error) {
	err = c.call(ctx, http.MethodPost, instancePath(id)+"/retry", nil, &i)
	return i, err
}

// Replace gives an instance another machine with the data disk of the one it
// has. Errors are those of every call.
func (c *Client) Replace(ctx context.Context, id string) (i Instance, err error) {
	err = c.call(ctx, http.MethodPost, instancePath(id)+"/replace", nil, &i)
	return i, err
}

// Releases lists all of them, the newest first. Errors are those of every
// call.
func (c *Client) Releases(ctx context.Context) ([]Release, error) {
	var all Releases
	err := c.call(ctx, http.MethodGet, releasesPath, nil, &all)
	return all.Releases, err
}

// FindRelease reads the release whose digest begins with name. Errors are
// ErrNotFound, *AmbiguousError, and those of every call.
func (c *Client) FindRelease(ctx context.Context, name string) (Release, error) {
	all, err := c.Releases(ctx)
	if err != nil {
		return Release{}, err
	}
	var begin []Release
	ambiguous := &AmbiguousError{Name: name}
	for _, r := range all {
		if name != "" && strings.HasPrefix(r.Digest, name) {
			begin = append(begin, r)
			ambiguous.IDs = append(ambiguous.IDs, r.Digest)
		}
	}
	switch len(begin) {
	case 0:
		return Release{}, fmt.Errorf("release %q: %w", name, ErrNotFound)
	case 1:
		return begin[0], nil
	}
	return Release{}, ambiguous
}

// AddRelease hands a signed release in. Errors are those of every call.
func (c *Client) AddRelease(ctx context.Context, n NewRelease) (r Release, err error) {
	err = c.call(ctx, http.MethodPost, releasesPath, n, &r)
	return r, err
}
