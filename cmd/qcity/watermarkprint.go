package main

import (
	"fmt"
	"io"

	"qcitycoin.org/qcity/signer"
)

func printMarks(w io.Writer, view *signer.JournalView) error {
	_, err := fmt.Fprintf(w, "journal %s, file id %s, %d records\n", view.Status.Path, view.Status.FileID, view.Status.Records)
	for _, m := range view.Marks {
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n  floor       %d (%s)\n  block       %s\n  vote        %s\n  set change  %s\n",
				m.Key, m.Floor, m.FloorSource, reached(m.Block, m.BlockSealed, ""),
				reached(m.Vote, m.VoteSealed, fmt.Sprintf(" from source %d", m.VoteSource)), numbered(m.SetChange))
		}
	}
	return err
}

// reached says how far a key got: "120, signed 110".
func reached(claimed, sealed uint32, from string) string {
	switch {
	case claimed == 0:
		return "none"
	case sealed == claimed:
		return fmt.Sprintf("%d%s, signed", claimed, from)
	case sealed == 0:
		return fmt.Sprintf("%d%s, no signature known", claimed, from)
	}
	return fmt.Sprintf("%d%s, signatures known up to %d", claimed, from, sealed)
}

func numbered(n uint32) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("to set %d", n)
}

func printImport(w io.Writer, in *signer.Import) error {
	var lines []string
	for i, a := range in.After {
		b := in.Before[i]
		for _, c := range []struct {
			what string
			b, a uint32
		}{{"floor", b.Floor, a.Floor}, {"block", b.Block, a.Block}, {"vote", b.Vote, a.Vote}, {"source of votes", b.VoteSource, a.VoteSource}, {"set change", b.SetChange, a.SetChange}} {
			if c.a != c.b {
				lines = append(lines, fmt.Sprintf("%s: %s raised from %d to %d", a.Key, c.what, c.b, c.a))
			}
		}
	}
	switch {
	case !in.Changed:
		lines = append(lines, "nothing changed: the journal knew all of it")
	case len(lines) == 0:
		lines = append(lines, "entries were added below the marks, which stay as they are")
	}
	for _, k := range in.Ignored {
		lines = append(lines, fmt.Sprintf("%s left out: the journal does not have this key (see qcity watermark init --add)", k))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
