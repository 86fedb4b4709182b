# bash completion for tailrace(1)
_tailrace() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} options=""
	if [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "check demo plugins replay run spool --help --version" -- "$cur")
		return
	fi
	case $prev in
	-c | --config) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
	-s | --sink) return ;;
	--format) mapfile -t COMPREPLY < <(compgen -W "text man json-schema" -- "$cur"); return ;;
	--user) mapfile -t COMPREPLY < <(compgen -u -- "$cur"); return ;;
	--for) return ;;
	esac
	case ${COMP_WORDS[1]} in
	check) options="-c --config --permissions --print --user" ;;
	demo) options="--for --keep" ;;
	plugins) options="--format" ;;
	replay) options="-c --config -s --sink --user" ;;
	run) options="-c --config --once --user --watch" ;;
	esac
	if [[ ${COMP_WORDS[1]} = plugins && $cur != -* ]]; then
		# a line a plugin: its kind, its type, what it does
		options=$("${COMP_WORDS[0]}" plugins 2>/dev/null | awk '{ print $2 }')
	fi
	if [[ ${COMP_WORDS[1]} = replay && $cur != -* ]]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
	fi
	if [[ ${COMP_WORDS[1]} = spool && $cur != -* ]]; then
		if [ "$COMP_CWORD" -gt 2 ]; then
			mapfile -t COMPREPLY < <(compgen -d -- "$cur")
			return
		fi
		options="ls cat verify repair"
	fi
	mapfile -t COMPREPLY < <(compgen -W "$options --help" -- "$cur")
}
complete -F _tailrace tailrace
