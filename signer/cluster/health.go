package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// inspect refuses a cluster that is not the pinned one, or not fit to hold claims.
func (c *Claims) inspect(ctx context.Context) error {
	cluster, members, err := c.members(ctx)
	if err != nil {
		return err
	}
	if cluster != c.pin.cluster || !slices.Equal(members, c.pin.members) {
		return c.stop(failed(ErrMisconfigured, nil, "this is etcd cluster %s with members %v, this box has joined cluster %s with members %v: %s", cluster, members, c.pin.cluster, c.pin.members, remedyJoin))
	}
	return c.fit(ctx, members)
}

// fit judges size and versions.
func (c *Claims) fit(ctx context.Context, members []id) error {
	if len(members) < 3 {
		if !c.config.AllowSingleMember {
			return failed(ErrMisconfigured, nil, "the etcd cluster has %d voting members, and with fewer than three it can lose what it acknowledged (etcd-io/etcd#14370): add members, then join it anew", len(members))
		}
		c.log.Warn("the etcd cluster has fewer than three voting members: for devnets and tests only", "members", len(members))
	}
	for {
		answered, err := c.versions(ctx)
		if answered > 0 || errors.Is(err, ErrMisconfigured) {
			return err
		}
		if !sleep(ctx, c.config.Timeouts.Attempt/10) {
			return explain(err, "asking the members of etcd for their versions")
		}
	}
}

// versions judges the members that answer. The error is the last one if none did.
func (c *Claims) versions(ctx context.Context) (answered int, last error) {
	for _, e := range c.config.Endpoints {
		version, err := c.version(ctx, e)
		if err != nil {
			c.log.Warn("a member of etcd does not tell its version", "endpoint", e, "err", err)
			last = err
			continue
		}
		answered++
		refuse, warn := judge(version)
		if refuse != "" && !c.config.AllowOldVersion {
			return answered, failed(ErrMisconfigured, nil, "%s runs etcd %s, in which %s: update it", e, version, refuse)
		}
		if refuse != "" || warn != "" {
			c.log.Warn("a member of etcd should be updated", "endpoint", e, "version", version, "why", refuse+warn)
		}
	}
	if answered > 0 {
		return answered, nil
	}
	return 0, last
}

func (c *Claims) version(ctx context.Context, endpoint string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Attempt)
	defer cancel()
	resp, err := c.client.Status(ctx, endpoint)
	if err != nil {
		return "", err
	}
	return resp.Version, nil
}

// members returns the identity of the cluster that answers now.
func (c *Claims) members(ctx context.Context) (cluster id, voters []id, err error) {
	var resp *clientv3.MemberListResponse
	for {
		once, cancel := context.WithTimeout(ctx, c.config.Timeouts.Attempt)
		resp, err = c.client.MemberList(once)
		cancel()
		if err == nil {
			break
		}
		if classify(err) != ErrUnavailable || !sleep(ctx, c.config.Timeouts.Attempt/10) {
			return 0, nil, explain(err, "asking etcd for its members")
		}
	}
	for _, m := range resp.Members {
		if !m.GetIsLearner() {
			voters = append(voters, id(m.GetID()))
		}
	}
	slices.Sort(voters)
	return id(resp.Header.GetClusterId()), voters, nil
}

// judge says what is wrong with a version of etcd, as a reason to refuse it or to
// warn. The numbers are those of etcd-io/etcd.
func judge(version string) (refuse, warn string) {
	v, err := parseVersion(version)
	before := func(minor, patch int) bool { return v[1] < minor || v[1] == minor && v[2] < patch }
	switch {
	case err != nil:
		return "", "its version is not understood"
	case v[0] != 3:
		return "", "this version has not been tried"
	case before(4, 32):
		return "the revision can fall after a crash (#17780, mended in 3.4.32)", ""
	case v[1] == 5 && v[2] <= 2:
		return "members can disagree after a crash (#13766)", ""
	case v[1] == 4:
		return "", "3.4 gets no updates any more"
	case v[1] == 5 && v[2] < 14:
		return "", "the revision can fall after a crash (#17780, mended in 3.5.14)"
	}
	return "", ""
}

func parseVersion(text string) (v [3]int, err error) {
	text, _, _ = strings.Cut(text, "-")
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return v, fmt.Errorf("version %q", text)
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return v, err
		}
		v[i] = int(n)
	}
	return v, nil
}
