"""A few sentences for each topic, to learn from."""

TOPICS = {
    "food": [
        "bake the bread in a hot oven",
        "chop the onion and fry it in butter",
        "the soup needs more salt and pepper",
        "we cooked rice with tomatoes and cheese",
        "this cake is made of eggs sugar and flour",
        "the kitchen smells of garlic and fresh bread",
        "taste the sauce before you add the cheese",
        "boil the pasta and fry the tomatoes",
    ],
    "sport": [
        "the striker scored two goals in the final",
        "our team won the match after extra time",
        "she ran the marathon in under three hours",
        "the goalkeeper saved a penalty",
        "the coach praised the players after the match",
        "he lost the race by one second",
        "the fans cheered when the team scored",
        "the player was injured before the final race",
    ],
    "weather": [
        "heavy rain and strong wind in the north",
        "a sunny morning with a few clouds",
        "the storm brings snow to the mountains",
        "it will be cold and foggy tonight",
        "temperatures fall below zero with snow",
        "thunder and rain are expected this evening",
        "the wind drives the clouds away",
        "a warm and sunny day without rain",
    ],
}
