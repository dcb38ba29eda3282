package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"qcitycoin.org/qcity/configs"
	"qcitycoin.org/qcity/node/rpc"
	"qcitycoin.org/qcity/stratum/pool"
	"qcitycoin.org/qcity/stratum/server"
)

// poolSession is one connection of the Stratum port, in JSON.
type poolSession struct {
	Remote      string    `json:"remote"`
	Transport   string    `json:"transport"` // plain, tls, websocket, tls+websocket
	Agent       string    `json:"agent"`
	Class       string    `json:"class"` // of the device; empty: unknown
	Info        string    `json:"info,omitempty"`
	Workers     []string  `json:"workers"`
	Extranonce1 string    `json:"extranonce1"`
	VersionMask string    `json:"versionMask"` // hex; bits it may roll
	Difficulty  float64   `json:"difficulty"`
	Connected   time.Time `json:"connected"`
	Accepted    uint64    `json:"accepted"`
	Rejected    uint64    `json:"rejected"`
	Twin        bool      `json:"twin"` // submits the same work as another connection
}

// calls are the RPC methods of the Stratum port.
func (b *box) calls() []rpc.Call {
	if b.stratum == nil {
		return nil
	}
	told := func(n int) (any, error) { return map[string]int{"connections": n}, nil }
	return []rpc.Call{
		{
			Name: "poolsessions", Params: "[worker]", Help: "the connections of the Stratum port, or those of a worker or account",
			Run: func(_ context.Context, p []string) (any, error) {
				list := []poolSession{}
				for _, s := range b.stratum.Stats().Sessions {
					if of(p[0])(s) {
						list = append(list, poolSession{
							s.Remote, s.Transport, s.UserAgent, s.Class, s.Info, s.Workers, s.Extranonce1, fmt.Sprintf("%08x", s.VersionMask),
							s.Difficulty, s.Connected.UTC(), s.Accepted, s.Rejected, s.Twin,
						})
					}
				}
				return list, nil
			},
		},
		{
			Name: "poolmessage", Params: "text [worker]", Help: "show a sentence to the owners of miners (client.show_message)",
			Run: func(_ context.Context, p []string) (any, error) { return told(b.stratum.Message(p[0], of(p[1]))) },
		},
		{
			Name: "poolreconnect", Params: "[worker]", Help: "ask miners to connect again (client.reconnect)",
			Run: func(_ context.Context, p []string) (any, error) { return told(b.stratum.Reconnect(of(p[0]))) },
		},
	}
}

// of tells the sessions of a worker, or of an account; of everybody if it is "".
func of(worker string) func(server.SessionStats) bool {
	return func(s server.SessionStats) bool {
		for _, name := range s.Workers {
			if name == worker || pool.Account(name) == worker {
				return true
			}
		}
		return worker == ""
	}
}

// poolCall makes a call to the running box of a configuration.
func poolCall(ctx context.Context, config string, result any, method string, params ...any) error {
	cfg, err := configs.Load(config)
	if err != nil {
		return err
	}
	r, err := newNodeRPC(&cfg)
	if err != nil {
		return err
	}
	err = r.call(ctx, result, method, params...)
	if refusal := new(rpcError); errors.As(err, &refusal) && strings.Contains(refusal.Message, "not found") {
		return errors.New("the box has no Stratum port: set payout and stratum.listen in its configuration")
	}
	return err
}

func newPoolSessions() *cobra.Command {
	var config, worker string
	var asJSON bool
	c := &cobra.Command{
		Use:   "sessions",
		Short: "Show who is connected to the running box's Stratum port",
		Long: `Show the connections of the running box's Stratum port: who, from where, with which
device, at which difficulty, and how many of its shares were taken and refused.`,
		Example: "  qcity pool sessions\n  qcity pool sessions --worker rig1 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []poolSession
			if err := poolCall(cmd.Context(), config, &list, "poolsessions", worker); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), list)
			}
			return printSessions(cmd.OutOrStdout(), list)
		},
	}
	c.Flags().StringVar(&config, "config", configs.FileName, "configuration file")
	c.Flags().StringVar(&worker, "worker", "", "only this worker, or account")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printSessions(w io.Writer, list []poolSession) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "remote\tover\tagent\tworkers\textranonce1\tdifficulty\taccepted\trejected\tsince\t")
	for i := range list {
		s := &list[i]
		note := ""
		if s.Twin {
			note = "SAME WORK AS ANOTHER"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.6g\t%d\t%d\t%s\t%s\n", s.Remote, s.Transport, s.Agent, strings.Join(s.Workers, " "),
			s.Extranonce1, s.Difficulty, s.Accepted, s.Rejected, s.Connected.Format(time.RFC3339), note)
	}
	return t.Flush()
}

// newPoolTell makes a command that says something to miners.
func newPoolTell(use, short, long, example, method string, args cobra.PositionalArgs) *cobra.Command {
	var config, worker string
	c := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			params := []any{}
			for _, a := range args {
				params = append(params, a)
			}
			var told struct {
				Connections int `json:"connections"`
			}
			if err := poolCall(cmd.Context(), config, &told, method, append(params, worker)...); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "sent to %d connections\n", told.Connections)
			return err
		},
	}
	c.Flags().StringVar(&config, "config", configs.FileName, "configuration file")
	c.Flags().StringVar(&worker, "worker", "", "only to this worker, or account")
	return c
}

func newPoolMessage() *cobra.Command {
	return newPoolTell("message TEXT", "Show a sentence to the owners of miners",
		"Send a sentence to connected miners (client.show_message). Many devices have no place to show it.",
		`  qcity pool message "the pool moves to another address on Friday"`, "poolmessage", cobra.ExactArgs(1))
}

func newPoolReconnect() *cobra.Command {
	return newPoolTell("reconnect", "Ask miners to connect again",
		"Ask connected miners to connect again to where they are (client.reconnect). They keep their\nplace and difficulty.",
		"  qcity pool reconnect --worker rig1", "poolreconnect", cobra.NoArgs)
}
