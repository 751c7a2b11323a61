package url2text

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/temoto/robotstxt"
)

// maxRobotsBytes is how much of a robots.txt is read (RFC 9309, section 2.5
// wants at least 500 KiB).
const maxRobotsBytes = 512 << 10

// allowed asks the site's robots.txt (RFC 9309): one that is not there allows
// everything, one that fails refuses. The error is ErrRobots or the client's.
func (r *Reader) allowed(ctx context.Context, address *url.URL) error {
	robots := &url.URL{Scheme: address.Scheme, Host: address.Host, Path: "/robots.txt"}
	resp, err := r.get(ctx, robots, "text/plain")
	if err != nil {
		return fmt.Errorf("asking for robots.txt: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRobotsBytes))
	if err != nil {
		return fmt.Errorf("reading robots.txt: %w", err)
	}
	rules, err := robotstxt.FromStatusAndBytes(resp.StatusCode, body)
	if err != nil {
		// What cannot be read forbids nothing.
		var bad *robotstxt.ParseError
		if errors.As(err, &bad) {
			return nil
		}
		return fmt.Errorf("%w: %w", ErrRobots, err)
	}
	if !rules.TestAgent(address.RequestURI(), r.Agent) {
		return ErrRobots
	}
	return nil
}
