"""Tasks for drafts: prompts whose answers copy from the prompt, and free ones.

No task was changed after its answer was known, except for "rewrite": its text was chosen after that of "rewrite, notes",
which SmolLM2-135M copies less. The initial odds of guesses were chosen with all tasks but those in `LATER`.
"""

NOTES = (
    "the harbour wakes befor the sun does. Fishing boats come in with there catch, and the gulls follow them in a long "
    "white line. On the quay a woman counts boxes and writes the number of each on a slate. Her brother carrys them to the "
    "cold store, two at a time. By seven the first lorry has left for the town. By eight the market is open, and the "
    "restarants send there cooks to choose. What is left at noon goes to the smokehouse, were it hangs over beech wood "
    "until the evening. The harbour is quiet then. Nets dry on the wall, and the boats lie in a row and wait for the tide."
)
TALE = (
    "Once upon a time, a fox lived near a lighthose. Every evning the fox walked along the shore and looked for shells. One "
    "night a storm came, and the light went out. The fox climbed the stairs and rang the bell, so that the ships could find "
    "the harbour. In the morning the captains came ashore and thanked the fox. They brought fish and bread, and the keeper "
    "mended the lamp. From then on the fox watched the light every night, and no ship was lost again."
)
LETTER = (
    "Dear Mrs Hale,\n\nI am writting to aplogise for the delay of your order. The two lamps were dispached on Monday, but "
    "the carrier returned them because the adress was incomplete. We have sent them again today, and they should arive by "
    "Friday. As a small compensaton we have refunded the cost of delivery.\n\nYours sincerely,\nTom Reed"
)
BLUNT = (
    "Your report is late again. You did not include the numbers for March, and the chart on page two is wrong. Send me a "
    "corrected version by noon tomorrow. I also need the list of suppliers that you promised last week. Do not forget the "
    "invoices."
)
MINUTES = (
    "Minutes, 12 May. Anna Berg opened the meeting at 9:30. Present were Anna Berg, Luis Ortega, Priya Nair and Paul Stone. "
    "Luis reported that the new warehouse in Leeds will open on 3 June and will employ 45 people. Priya said that sales rose "
    "by 8 percent in April, chiefly in Norway and Spain. Paul asked for two more drivers. The next meeting is on 9 June at "
    "10:00 in room 4."
)
ARTICLE = (
    'The city council voted on Tuesday to close Mill Street to cars from next spring. "Our children must be able to walk to '
    'school safely," said the mayor, Ruth Calder. Shop owners fear that customers will stay away. "Half of my customers '
    'come by car," said Daniel Frey, who has run a hardware shop there for thirty years. The council promised a free car '
    "park at the station and a bus every ten minutes. The trial will last for one year, and the council will then decide "
    "again."
)
CITIES = (
    "- Oslo, Norway, 709000 people\n- Lisbon, Portugal, 545000 people\n- Vienna, Austria, 1982000 people\n"
    "- Riga, Latvia, 605000 people\n- Dublin, Ireland, 592000 people\n- Athens, Greece, 643000 people"
)
INVITATION = (
    "Dear [NAME],\n\nthank you for your application for the position of [POSITION] at [COMPANY]. We would like to invite you "
    "to an interview on [DATE] at [TIME] in our office at [ADDRESS]. Please bring your passport and copies of your "
    "certificates. If you cannot come, call us at [PHONE].\n\nKind regards,\n[SENDER]"
)
FAMILY = (
    "Hans Müller lives in München and works in Köln. His sister Grete lives in Wien and travels to Genf every month. Their "
    "uncle Johann has a small hotel in Nürnberg, near the old castle. In summer they all meet in Venedig."
)
CYCLIST = (
    "My neighbour Peter has an old grey bicycle. He rides it to the theatre every evening, because he plays the cello there. "
    "On the way he buys a programme and a bar of chocolate. His favourite colour is yellow, and so he has painted the bell of "
    "his bicycle yellow."
)
MUSEUM = (
    "The museum opens at nine and closes at five. On Mondays it is closed. Tickets cost eight pounds, and children under "
    "twelve pay nothing. Large bags must be left in the lockers beside the entrance. Dogs are not allowed, except guide dogs."
)
GRAMMAR = (
    "I has been working in this company since five years. Every day I goes to the office by bus. My colleagues is very "
    "friendly and they helps me when I has a problem. Last week we was finishing a big project, and our boss were very happy."
)
VARIANCE = (
    "```python\ndef variance(values):\n    total = 0\n    for value in values:\n        total += value\n"
    "    centre = total / len(values)\n    total = 0\n    for value in values:\n        total += (value - centre) ** 2\n"
    "    return total / len(values)\n```"
)
STACK = (
    "```python\nclass Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n"
    "        self.items.append(item)\n\n    def pop(self):\n        return self.items.pop()\n\n    def is_empty(self):\n"
    "        return len(self.items) == 0\n```"
)
CONFIG = (
    "```python\ndef read_config(path):\n    file = open(path)\n    lines = file.readlines()\n    file.close()\n"
    "    config = {}\n    for line in lines:\n        key, value = line.split('=')\n"
    "        config[key.strip()] = value.strip()\n    return config\n```"
)
AREA = (
    "```python\ndef area(w, h):\n    # multiply the sides\n    a = w * h\n    return a\n\ndef perimeter(w, h):\n"
    "    # add the sides twice\n    p = 2 * (w + h)\n    return p\n\nprint(area(3, 4))\nprint(perimeter(3, 4))\n```"
)
GROUNDED = {
    "rewrite": f"Correct the spelling mistakes in this text and write the whole text again:\n\n{TALE}",
    "rewrite, notes": f"Correct the spelling mistakes in this text and write the whole text again:\n\n{NOTES}",
    "code": f"Rename the variable total to result in this code, and show the whole code:\n\n{VARIANCE}",
    "summary": f"Summarise the following minutes:\n\n{MINUTES}",
    "summary with quotes": f"Summarise this article in three sentences and include the quotes:\n\n{ARTICLE}",
    "spelling of a letter": "Please correct all spelling mistakes in this letter and give me the full corrected letter:"
    f"\n\n{LETTER}",
    "polite message": f"Make this message more polite, but keep all the information:\n\n{BLUNT}",
    "docstrings": f"Add a docstring to every method of this class and show the complete class:\n\n{STACK}",
    "with statement": f"Change this function so that it uses a with statement to open the file:\n\n{CONFIG}",
    "names and dates": f"Extract all names of people, all dates and all places from these minutes:\n\n{MINUTES}",
    "names of cities": "Replace the German names of the cities with their English names and write the text again:\n\n"
    f"{FAMILY}",
    "table": f"Convert this list to a Markdown table with the columns City, Country and Population:\n\n{CITIES}",
    "template": "Fill in this template for Maria Lopez, who applied as a nurse at Saint Mary Hospital; the interview is on "
    f"4 March at 11:00, 12 Park Road, phone 555-0143, sender Dr Ellis:\n\n{INVITATION}",
    "past tense": f"Rewrite this text in the past tense:\n\n{FAMILY} They always bring the same old guitar, and Johann sings "
    "the songs of his youth. Grete pays for the dinner, and Hans complains about the prices.",
    "JSON": f"Convert this list to JSON:\n\n{CITIES}",
    "American spelling": f"Rewrite this text with American spelling:\n\n{CYCLIST}",
    "pronouns": f"Replace Peter with Anna in this text and change the pronouns:\n\n{CYCLIST}",
    "comments": f"Remove the comments from this code and show the whole code:\n\n{AREA}",
    "function name": f"Rename the function area to rectangle_area everywhere in this code:\n\n{AREA}",
    "bulleted list": f"Turn this text into a bulleted list:\n\n{MUSEUM}",
    "two sentences": f"Shorten this text to two sentences:\n\n{MUSEUM}",
    "answer": f"Answer with a sentence from the text: are dogs allowed?\n\n{MUSEUM}",
    "grammar": f"Correct the grammar of this text:\n\n{GRAMMAR}",
    "sorted cities": "Sort these cities alphabetically: Oslo, Lisbon, Vienna, Riga, Dublin, Athens, Berlin, Madrid, Paris, "
    "Rome.",
}
FREE = {
    "story": "Tell me a long story about a fox who lives in a lighthouse.",
    "brothers": "Write a short story about two brothers who build a boat.",
    "rainbow": "Explain how a rainbow is formed.",
    "piano": "Give me some advice for learning to play the piano.",
    "poem": "Write a poem about the sea in winter.",
    "sky": "Why is the sky blue?",
    "bread": "Tell me about the history of bread.",
    "mountains": "Write a letter to a friend about a walk in the mountains.",
}
LATER = (*list(GROUNDED)[15:], "sky", "bread", "mountains")
RACED = ("rewrite", "rewrite, notes", "code", "summary", "summary with quotes", "story")
"""Tasks whose time is measured."""
