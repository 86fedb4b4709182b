# fish completion for tailrace(1)
set -l commands check demo plugins replay run spool
complete -c tailrace -f
complete -c tailrace -n "not __fish_seen_subcommand_from $commands" -a check -d 'validate a configuration'
complete -c tailrace -n "not __fish_seen_subcommand_from $commands" -a demo -d "ship this machine's own logs for a few seconds"
complete -c tailrace -n "not __fish_seen_subcommand_from $commands" -a plugins -d 'describe sources, transforms and sinks'
complete -c tailrace -n "not __fish_seen_subcommand_from $commands" -a replay -d 'send dead letters again'
complete -c tailrace -n "not __fish_seen_subcommand_from $commands" -a run -d 'run the agent in the foreground'
complete -c tailrace -n "not __fish_seen_subcommand_from $commands" -a spool -d 'look into a disk buffer, and repair it'
complete -c tailrace -n "not __fish_seen_subcommand_from $commands" -l version -d 'print the version'
complete -c tailrace -l help -d 'tell what there is'
complete -c tailrace -n '__fish_seen_subcommand_from check replay run' -s c -l config -r -F -d 'the configuration'
complete -c tailrace -n '__fish_seen_subcommand_from check' -l print -d 'show the effective configuration'
complete -c tailrace -n '__fish_seen_subcommand_from check' -l permissions -d 'try what it touches'
complete -c tailrace -n '__fish_seen_subcommand_from check' -l user -x -a '(__fish_complete_users)' -d 'whose rights'
complete -c tailrace -n '__fish_seen_subcommand_from demo' -l for -x -d 'how long'
complete -c tailrace -n '__fish_seen_subcommand_from demo' -l keep -d 'leave the directory'
complete -c tailrace -n '__fish_seen_subcommand_from plugins' -l format -x -a 'text man json-schema'
complete -c tailrace -n '__fish_seen_subcommand_from run' -l once -d 'read what is there and exit'
complete -c tailrace -n '__fish_seen_subcommand_from run' -l watch -d 'reload when the configuration changes'
complete -c tailrace -n '__fish_seen_subcommand_from replay' -F
complete -c tailrace -n '__fish_seen_subcommand_from replay' -s s -l sink -x -d 'through this sink'
complete -c tailrace -n '__fish_seen_subcommand_from replay run' -l user -x -a '(__fish_complete_users)' -d 'whom to become'
complete -c tailrace -n '__fish_seen_subcommand_from spool' -a 'ls cat verify repair'
complete -c tailrace -n '__fish_seen_subcommand_from spool' -F
