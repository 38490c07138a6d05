// Package safefile opens the files and directories of this machine that the program relies
// on: its state, its configuration, what the configuration names, and what a person lets it
// write. It imports nothing of ours, so that every layer can use it.
//
// A path is only a name. Whoever can change one directory of it decides what it leads to, and
// a daemon of root's that trusts the name then changes the mode of, overwrites or gives away a
// file of root's. So a path is walked from the root, one directory at a time, each by its
// descriptor (openat with O_NOFOLLOW), and it is refused unless nobody but root and the user
// that this process runs as can change where it leads:
//
//   - every directory and symbolic link on the way belongs to root or to this user;
//   - no directory on the way can be written by others, unless it is sticky, as /tmp is;
//   - symbolic links that keep to this are followed on the way (/home may lead to another
//     disk), and never at the end, unless the function says so.
//
// A file that is opened must be a regular file of root's or of this user's that others cannot
// write. Both are asked of the open descriptor, so there is no time between check and use. A
// mode is only ever changed through a descriptor, and only of what belongs to this user.
//
// Two things are let through because they give no power to anybody who does not have it
// already. Whoever owns / decides every path; in a user namespace that is the overflow user.
// And a group may write where it is the user's own group, called like the user: many systems
// make home directories that way.
//
// os.Remove, os.Rename and os.Stat are fine outside of this package: none of them writes
// through a symbolic link at the end of a path, and the directories were walked before.
package safefile
